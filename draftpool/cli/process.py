"""One service in a process of its own, which never outlives the process that started it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.cli.listening import free_port
from draftpool.cli.threads import thread_environment
from draftpool.errors import DraftpoolError
from draftpool.rpc.channel import open_channel

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


@dataclass(frozen=True)
class ServiceSpec:
    """What to start.

    Attributes:
        name: for people and for the log file: `drafter`, `verifier tiny-llama`.
        role: the subcommand of `draftpool serve`.
        options: its further options.
        listen: the address it binds; port 0 takes a free one.
        num_threads: that it may compute with.
        drain_grace_s: how long running requests may go on once it is asked to stop, in seconds.
        has_metrics: whether it serves Prometheus metrics, on a free port.
    """

    name: str
    role: str
    options: tuple[str, ...]
    listen: str
    num_threads: int
    drain_grace_s: float
    has_metrics: bool = False


class ServiceProcess:
    """Starts a service, knows where it answers and what it last said, and stops it.

    The child holds the other end of a pipe and ends when that closes, so it goes even when this process is killed.

    Attributes:
        metrics_address: where its metrics are, host:port; None without them.
    """

    def __init__(self, spec: ServiceSpec, folder: Path) -> None:
        self.spec = spec
        self.log_path = folder / f"{spec.name.replace(' ', '-').replace('/', '-')}.log"
        self._address_file = self.log_path.with_suffix(".address")
        self.metrics_address = f"127.0.0.1:{free_port()}" if spec.has_metrics else None
        self._process: Process | None = None
        self._address: str | None = None

    @property
    def address(self) -> str:
        """Where it answers; the same after a restart.

        Raises:
            RuntimeError: it has not been ready yet.
        """
        if self._address is None:
            raise RuntimeError(f"{self.spec.name} has no address before it is ready")
        return self._address

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
        self._address_file.unlink(missing_ok=True)
        with self.log_path.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                env={**os.environ, **thread_environment(self.spec.num_threads)},
                start_new_session=True,  # Ctrl-C is for the starter, which stops its children in order
            )
        while not await self._is_ready():
            if not self.is_alive:
                raise self._failure()
            await asyncio.sleep(_POLL_S)
        self._address_file.unlink(missing_ok=True)

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
            await asyncio.wait_for(self.wait(), patience_s)
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
            return ServiceFailed(f"{self.spec.name} cannot start: {tail[-1].removeprefix(ERROR_PREFIX)}", tail[:-1])
        return ServiceFailed(f"{self.spec.name} {self.ending} while starting; its log is {self.log_path}", tail)

    def _started(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.spec.name} has not been started")
        return self._process

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "draftpool", "serve", self.spec.role),
            *("--listen", self._address or self.spec.listen),
            *("--address-file", str(self._address_file)),
            *("--drain-grace-s", str(self.spec.drain_grace_s)),
            *(() if self.metrics_address is None else ("--metrics-listen", self.metrics_address)),
            "--exit-with-parent",
            *self.spec.options,
        ]

    async def _is_ready(self) -> bool:
        if not self._address_file.exists():
            return False
        self._address = self._address_file.read_text()
        return await is_serving(self._address)


async def is_serving(address: str, timeout_s: float = 2.0) -> bool:
    """Whether the server at `address` says of itself that it serves."""
    async with open_channel(address) as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
