"""What shall run on one machine: decided here, started by `stack`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Literal, TypeAlias

from draftpool.cli.process import ServiceSpec
from draftpool.cli.threads import ThreadPlan, num_physical_cores, plan_threads
from draftpool.errors import BadParameter

DType: TypeAlias = Literal["auto", "bfloat16", "float16", "float32"]
"""What targets can be told to compute in; auto: bfloat16 where the device does."""

EMBEDDED_TARGETS = ("tiny-llama", "tiny-neox")
EMBEDDED_DRAFTER = "tiny-mamba-drafter"

REDIS_URL_VARIABLE = "DRAFTPOOL_ORCHESTRATOR_REDIS_URL"
"""What tells an orchestrator its Redis; empty for none, whatever this process's own environment says."""


@dataclass(frozen=True)
class Place:
    """Where on the machine a service runs: in another network namespace, on a core of its own.

    Attributes:
        host: the address that it binds.
        launcher: put before its command, which it must execute in its own stead: `taskset --cpu-list 0`.
    """

    host: str
    launcher: tuple[str, ...] = ()


_HERE = Place("127.0.0.1")


@dataclass(frozen=True)
class StackPlan:
    """A whole draftpool on one machine. The default is made of the embedded models alone.

    Attributes:
        targets: an embedded name, folder or hub id each; at least one.
        drafter: the same; None decodes without drafts.
        num_drafters: replicas of the drafter.
        num_verifiers: replicas of each target.
        listen: address of the orchestrator; port 0 takes a free one.
        dtype: of the targets; None leaves it to the verifier.
        drafter_threads, verifier_threads: per process; None divides the machine's cores.
        drain_grace_s: how long running requests may go on when the stack is stopped, in seconds.
        has_metrics: whether every service serves Prometheus metrics, each on a free port.
        redis_url: of the Redis that keeps what is learned; it may hold a password.
        has_redis: whether one is started where none is named and the machine has a redis-server.
        places: of services that shall not run just here, by name: `drafter`, `verifier tiny-llama 2`. The orchestrator
            binds `listen` wherever it is. Metrics stay on the loopback of each place.

    Raises:
        BadParameter: no target, or two that would be served under one name.
    """

    targets: tuple[str, ...] = EMBEDDED_TARGETS
    drafter: str | None = EMBEDDED_DRAFTER
    num_drafters: int = 1
    num_verifiers: int = 1
    listen: str = f"{_HERE.host}:0"
    dtype: str | None = None
    drafter_threads: int | None = None
    verifier_threads: int | None = None
    drain_grace_s: float = 5.0
    has_metrics: bool = False
    redis_url: str | None = field(default=None, repr=False)
    has_redis: bool = True
    places: Mapping[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.targets:
            raise BadParameter("at least one target is needed")
        name, times = Counter(map(served_name, self.targets)).most_common(1)[0]
        if times > 1:
            raise BadParameter(f"{times} targets would be served as {name!r}; names must differ")

    @property
    def threads(self) -> ThreadPlan:
        shared = plan_threads(num_verifiers=len(self.targets) * self.num_verifiers, num_cores=num_physical_cores())
        return ThreadPlan(self.drafter_threads or shared.drafter, self.verifier_threads or shared.verifier)

    def drafters(self) -> tuple[ServiceSpec, ...]:
        if self.drafter is None:
            return ()
        options = ("--model", self.drafter, "--num-threads", str(self.threads.drafter))
        return self._replicas(self.num_drafters, "drafter", "drafter", options, self.threads.drafter)

    def verifiers(self) -> dict[str, tuple[ServiceSpec, ...]]:
        """By the name under which each target is served."""
        return {served_name(target): self._verifiers(target) for target in self.targets}

    def orchestrator(
        self, *, drafters: Sequence[str], verifiers: Sequence[str], redis_url: str | None = None
    ) -> ServiceSpec:
        """Args: addresses, as known once the other services answer."""
        options = [
            *(part for address in drafters for part in ("--drafter", address)),
            *(part for address in verifiers for part in ("--verifier", address)),
        ]
        spec = self._spec("orchestrator", "orchestrator", tuple(options), 1)
        return replace(spec, listen=self.listen, environment={REDIS_URL_VARIABLE: redis_url or ""})

    def _verifiers(self, target: str) -> tuple[ServiceSpec, ...]:
        name = served_name(target)
        dtype = () if self.dtype is None else ("--dtype", self.dtype)
        options = ("--model", target, "--name", name, "--num-threads", str(self.threads.verifier), *dtype)
        return self._replicas(self.num_verifiers, f"verifier {name}", "verifier", options, self.threads.verifier)

    def _replicas(
        self, num_replicas: int, name: str, role: str, options: tuple[str, ...], num_threads: int
    ) -> tuple[ServiceSpec, ...]:
        """Numbered where there are several."""
        names = [name] if num_replicas == 1 else [f"{name} {number}" for number in range(1, num_replicas + 1)]
        return tuple(self._spec(each, role, options, num_threads) for each in names)

    def _spec(self, name: str, role: str, options: tuple[str, ...], num_threads: int) -> ServiceSpec:
        place = self.places.get(name, _HERE)
        spec = ServiceSpec(name, role, options, f"{place.host}:0", num_threads, self.drain_grace_s, self.has_metrics)
        return replace(spec, launcher=place.launcher)


def served_name(model: str) -> str:
    """The name a target goes by: the last part of its folder or hub id."""
    return PurePath(model.rstrip("/")).name or model
