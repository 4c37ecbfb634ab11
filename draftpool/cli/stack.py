"""A whole draftpool on this machine, each service in its own process, for as long as a context lasts.

    async with Stack(StackPlan()) as stack, Client(stack.orchestrator) as client:
        ...

`draftpool up`, the demo, the integration tests and the benchmarks all run on it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from draftpool.cli.child import ChildProcess, ServiceFailed
from draftpool.cli.listening import require_free
from draftpool.cli.plan import StackPlan
from draftpool.cli.process import ServiceProcess, ServiceSpec
from draftpool.cli.redis_process import RedisProcess, find_redis_server

_KILL_AFTER_S = 3.0
"""How much longer than its grace a service may take to stop."""

_FIRST_BACKOFF_S = 1.0
_MAX_BACKOFF_S = 30.0
_STEADY_S = 60.0
"""A service that ran this long restarts without the memory of earlier failures."""


class ServiceState(Enum):
    """Where a service is in its life: failed is not having started, ended is to be started again."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    ENDED = "ended"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ServiceEvent:
    """A service changed its state.

    Attributes:
        detail: what a person should know beyond the state; may be empty.
    """

    service: ChildProcess
    state: ServiceState
    detail: str = ""


def ignore_events(_event: ServiceEvent) -> None:
    """For callers that do not watch."""


class Stack:
    """Starts what a plan says and stops all of it when the context ends.

    Attributes:
        plan: what runs.
        folder: where the logs are.
        services: every process, by name: `redis`, `drafter`, `verifier tiny-llama`, `orchestrator`.
    """

    def __init__(
        self,
        plan: StackPlan,
        *,
        log_dir: Path | None = None,
        on_event: Callable[[ServiceEvent], None] = ignore_events,
    ) -> None:
        """`log_dir` keeps the logs; without it they go with the stack, unless starting it fails."""
        self.plan = plan
        self._keeps_logs = log_dir is not None
        self.folder = log_dir or Path(tempfile.mkdtemp(prefix="draftpool-"))
        self.services: dict[str, ChildProcess] = {}
        self._on_event = on_event

    @property
    def orchestrator(self) -> str:
        """Address of the public API."""
        return self.services["orchestrator"].address

    @property
    def drafters(self) -> tuple[str, ...]:
        """Addresses of the drafter replicas."""
        return tuple(self.services[spec.name].address for spec in self.plan.drafters())

    @property
    def verifiers(self) -> dict[str, tuple[str, ...]]:
        """Addresses of the verifier replicas, by the name of their target."""
        planned = self.plan.verifiers()
        return {name: tuple(self.services[spec.name].address for spec in specs) for name, specs in planned.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids, by the name of the service."""
        return {name: service.pid for name, service in self.services.items()}

    @property
    def metrics(self) -> dict[str, str]:
        """Addresses of the metrics, by the name of the service; empty where the plan has none."""
        return {name: s.metrics_address for name, s in self.services.items() if s.metrics_address is not None}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything; returns once every service is healthy and the orchestrator knows all targets.

        Raises:
            BadParameter: the orchestrator's address is taken.
            ServiceFailed: a service ended before that; all others have been stopped, and the logs are kept.
        """
        try:
            require_free(self.plan.listen)
            self.folder.mkdir(parents=True, exist_ok=True)
            await self._start_all()
        except BaseException as error:
            self._keeps_logs |= isinstance(error, ServiceFailed)
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Bring back every service that ends, at its old address, after a growing pause. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for service in self.services.values():
                group.create_task(self._keep_up(service))

    async def stop(self) -> None:
        """Ask the orchestrator to finish its requests, then everything else; kill what does not stop in time."""
        models = [service for name, service in self.services.items() if name != "orchestrator"]
        fronts = [service for name, service in self.services.items() if name == "orchestrator"]
        for services in (fronts, models):
            await asyncio.gather(*(self._stop(service) for service in services))
        if not self._keeps_logs:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End every process at once; `stop` then returns quickly."""
        for service in self.services.values():
            if service.is_alive:
                service.kill()

    async def _start_all(self) -> None:
        redis_url = await self._redis_url()
        models = self._add([*self.plan.drafters(), *chain(*self.plan.verifiers().values())])
        try:
            async with asyncio.TaskGroup() as group:
                for service in models:
                    group.create_task(self._start_first(service))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        verifiers = tuple(chain(*self.verifiers.values()))
        front = self.plan.orchestrator(drafters=self.drafters, verifiers=verifiers, redis_url=redis_url)
        for service in self._add([front]):
            await self._start_first(service)

    async def _redis_url(self) -> str | None:
        """Of the Redis that the plan names, else of one that is started here; None where there shall or can be none."""
        if self.plan.redis_url is not None or not self.plan.has_redis:
            return self.plan.redis_url
        binary = find_redis_server()
        if binary is None:
            return None
        redis = self.services["redis"] = RedisProcess(binary, self.folder)
        try:
            await self._start_first(redis)
        except ServiceFailed:  # it has been told, and everything works without
            del self.services["redis"]
            return None
        return redis.address

    def _add(self, specs: Iterable[ServiceSpec]) -> list[ServiceProcess]:
        added = [ServiceProcess(spec, self.folder) for spec in specs]
        self.services.update({service.name: service for service in added})
        return added

    async def _start(self, service: ChildProcess) -> None:
        self._tell(service, ServiceState.STARTING)
        await service.start()
        self._tell(service, ServiceState.READY)

    async def _start_first(self, service: ChildProcess) -> None:
        try:
            await self._start(service)
        except ServiceFailed:
            self._tell(service, ServiceState.FAILED, service.ending)
            raise

    async def _keep_up(self, service: ChildProcess) -> None:
        pause_s = _FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            await service.wait()
            if time.monotonic() - began > _STEADY_S:
                pause_s = _FIRST_BACKOFF_S
            self._tell(service, ServiceState.ENDED, f"{service.ending}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_BACKOFF_S)
            with suppress(ServiceFailed):  # then it has ended, which the next turn tells
                await self._start(service)

    async def _stop(self, service: ChildProcess) -> None:
        if service.is_alive:
            self._tell(service, ServiceState.STOPPING)
            await service.stop(self.plan.drain_grace_s + _KILL_AFTER_S)
            self._tell(service, ServiceState.STOPPED)

    def _tell(self, service: ChildProcess, state: ServiceState, detail: str = "") -> None:
        self._on_event(ServiceEvent(service, state, detail))
