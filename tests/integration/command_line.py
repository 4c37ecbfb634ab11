"""Runs the `draftpool` command as people and their scripts do: as a process, with the embedded models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TIMEOUT_S = 120
PROMPT = "Question: Mia has 4 bags with 6 marbles in each. How many marbles does she have?\nAnswer:"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "draftpool", *arguments]


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Up:
    """A running `draftpool up` and what it has printed so far."""

    process: subprocess.Popen[bytes]
    output_path: Path

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def address(self) -> str:
        match = re.search(r"answers at (\S+)", self.output)
        assert match is not None, self.output
        return match[1]

    @property
    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def wait_ready(self) -> None:
        is_over = lambda: "Ready" in self.output or self.process.poll() is not None  # noqa: E731
        assert wait_until(is_over, START_TIMEOUT_S), self.output
        assert self.process.poll() is None, self.output


def start_up(folder: Path, *options: str) -> Up:
    """Start `draftpool up` with its output and logs in `folder`; whoever calls this ends it."""
    output_path = folder / "output.txt"
    with output_path.open("wb") as output:
        process = subprocess.Popen(
            command("up", "--listen", "127.0.0.1:0", "--log-dir", str(folder / "logs"), *options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Up(process, output_path)


def generate(up: Up, *options: str, prompt: str = PROMPT) -> subprocess.CompletedProcess[str]:
    return run("generate", prompt, "--address", up.address, "--max-new-tokens", "40", *options)
