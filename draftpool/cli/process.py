"""One service of `draftpool serve` in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.cli.child import ChildProcess
from draftpool.cli.listening import free_port
from draftpool.cli.threads import thread_environment
from draftpool.rpc.channel import open_channel
from draftpool.settings import TlsSettings


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
        environment: variables of its own, for what must not show in the list of processes.
        launcher: put before the command, which it must execute in its own stead: `taskset --cpu-list 0`.
    """

    name: str
    role: str
    options: tuple[str, ...]
    listen: str
    num_threads: int
    drain_grace_s: float
    has_metrics: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    launcher: tuple[str, ...] = ()


class ServiceProcess(ChildProcess):
    """A service that answers gRPC, and says itself whether it serves."""

    def __init__(self, spec: ServiceSpec, folder: Path) -> None:
        super().__init__(spec.name, spec.role, folder)
        self.spec = spec
        self._address_file = self.log_path.with_suffix(".address")
        self.metrics_address = f"127.0.0.1:{free_port()}" if spec.has_metrics else None
        self._address: str | None = None

    @property
    def address(self) -> str:
        if self._address is None:
            raise RuntimeError(f"{self.name} has no address before it is ready")
        return self._address

    async def start(self) -> None:
        self._address_file.unlink(missing_ok=True)
        await super().start()
        self._address_file.unlink(missing_ok=True)

    @property
    def _environment(self) -> Mapping[str, str]:
        return {**thread_environment(self.spec.num_threads), **self.spec.environment}

    def _command(self) -> list[str]:
        return [
            *self.spec.launcher,
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
    async with open_channel(address, tls=TlsSettings().for_channels()) as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
