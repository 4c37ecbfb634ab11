"""A process that this one started, and that never outlives it."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from draftpool.errors import DraftpoolError

ERROR_PREFIX = "Error: "
"""How every command begins the sentence that says why it failed; read back from the logs of services."""

_POLL_S = 0.05
_NUM_TAIL_LINES = 12
_TAIL_BYTES = 16_384


class ServiceFailed(DraftpoolError):
    """A service ended while it was starting.

    Attributes:
        log_tail: the last lines of its log.
    """

    reason = "SERVICE_FAILED"

    def __init__(self, message: str, log_tail: Sequence[str]) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)


class ChildProcess(ABC):
    """Starts a service, knows where it answers and what it last said, and stops it.

    The child holds the other end of a pipe and ends when that closes, so it goes even when this process is killed.

    Attributes:
        name: for people and for the log file: `drafter`, `verifier tiny-llama`.
        role: what it does: `verifier`.
        log_path: where its output goes.
        metrics_address: where its metrics are, host:port; None without them.
    """

    metrics_address: str | None = None

    def __init__(self, name: str, role: str, folder: Path) -> None:
        self.name = name
        self.role = role
        self.log_path = folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
        self._process: Process | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it answers; the same after a restart.

        Raises:
            RuntimeError: it has not been ready yet.
        """

    @abstractmethod
    def _command(self) -> list[str]:
        """What to execute; its standard input is the pipe."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether it answers."""

    @property
    def _environment(self) -> Mapping[str, str]:
        """What it is told beyond this process's own environment."""
        return {}

    @property
    def pid(self) -> int:
        """Raises RuntimeError before it has been started."""
        return self._started().pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, or start it again at the address it had; returns once it is healthy.

        Raises:
            ServiceFailed: it ended before that.
        """
        with self.log_path.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                env={**os.environ, **self._environment},
                start_new_session=True,  # Ctrl-C is for the starter, which stops its children in order
            )
        while not await self._is_ready():
            if not self.is_alive:
                raise self._failure()
            await asyncio.sleep(_POLL_S)

    async def wait(self) -> None:
        """Return when the process has ended."""
        await self._started().wait()

    def terminate(self) -> None:
        """Ask it to drain and stop."""
        with suppress(ProcessLookupError):  # it has ended by itself
            self._started().terminate()

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._started().kill()

    async def stop(self, patience_s: float) -> None:
        """Ask it to stop, and kill it when it has not after `patience_s` seconds."""
        if not self.is_alive:
            return
        self.terminate()
        try:
            async with asyncio.timeout(patience_s):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()

    @property
    def ending(self) -> str:
        """How it ended, for a sentence: `ended with exit code 1`."""
        code = self._started().returncode
        if code is None:
            return "is running"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def log_tail(self, num_lines: int = _NUM_TAIL_LINES) -> list[str]:
        """The last lines it wrote; of progress bars, their last state."""
        if not self.log_path.exists():
            return []
        with self.log_path.open("rb") as log_file:
            log_file.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
            text = log_file.read().decode(errors="replace")
        lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
        return [line for line in lines if line.strip()][-num_lines:]

    def _failure(self) -> ServiceFailed:
        """Why it did not start: its own sentence where it left one, else that it ended."""
        tail = self.log_tail()
        if tail and tail[-1].startswith(ERROR_PREFIX):
            return ServiceFailed(f"{self.name} cannot start: {tail[-1].removeprefix(ERROR_PREFIX)}", tail[:-1])
        return ServiceFailed(f"{self.name} {self.ending} while starting; its log is {self.log_path}", tail)

    def _started(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process
