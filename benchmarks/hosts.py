"""Hosts that are really apart, on one Linux machine: own network namespaces, own addresses, a wire of any length.

    async with stack_apart(StackPlan(targets=("tiny-llama",))) as (hosts, stack), Client(stack.orchestrator) as client:
        hosts.connect("drafter", round_trip_ms=10)
        ...
        hosts.cut("verifier tiny-llama")

Round trips are between a host and all others: between two hosts, halves of both add up. The process that opened it, and
what it starts without a place, are at `home`, which is a host like the others. Needs root (CAP_NET_ADMIN and
CAP_SYS_ADMIN), /dev/net/tun and util-linux; nothing is left behind, whatever happens to this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

from benchmarks import wire
from draftpool.cli.plan import Place, StackPlan
from draftpool.cli.stack import Stack
from draftpool.errors import DraftpoolError

_INSECURE = "DRAFTPOOL_SERVER_INSECURE=true"
"""Nobody but the hosts can reach the wire."""


class NotPossible(DraftpoolError):
    """This machine, or this user, cannot have hosts that are apart."""

    reason = "NOT_POSSIBLE"


class Hosts:
    """Namespaces and the wire between them, for as long as a context lasts.

    Raises:
        NotPossible: on entering; the message says why.
    """

    def __init__(self, *names: str) -> None:
        subnet = _free_subnet()
        self.home = f"{subnet}.1"
        self.addresses = {name: f"{subnet}.{number}" for number, name in enumerate(names, 2)}
        self._namespaces: dict[str, str] = {}

    def __enter__(self) -> Self:
        if shutil.which("nsenter") is None:
            raise NotPossible("hosts that are apart need nsenter, of util-linux, and Linux")
        self._wire = subprocess.Popen(
            [sys.executable, "-P", wire.__file__, self.home, *self.addresses.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the starter; services must be able to say goodbye
        )
        answer = self._answer()
        if not answer:
            _, why = self._wire.communicate()
            raise NotPossible(f"no hosts that are apart on this machine: {why.strip()}")
        descriptors = json.loads(answer)
        self._namespaces = {
            name: f"/proc/{self._wire.pid}/fd/{fd}" for name, fd in zip(self.addresses, descriptors, strict=True)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wire.communicate()

    @property
    def wire_pid(self) -> int:
        """Of the process that carries the packets."""
        return self._wire.pid

    @property
    def listen(self) -> str:
        """What a service at home binds to be reached by the hosts; port 0 takes a free one."""
        return f"{self.home}:0"

    def place(self, name: str, *, core: int | None = None) -> Place:
        """Where a service runs that shall run on this host.

        Args:
            core: the one that it may use; None for any.
        """
        enter = ("nsenter", f"--net={self._namespaces[name]}")
        return Place(self.addresses[name], (*enter, *_prefix(core)))

    def place_at_home(self, *, core: int | None = None) -> Place:
        return Place(self.home, _prefix(core))

    def connect(self, name: str, *, round_trip_ms: float = 0.0) -> None:
        """The host can be reached, and a round trip to it takes this long."""
        self._tell(self.addresses[name], round_trip_ms, is_cut=False)

    def cut(self, name: str) -> None:
        """Nothing gets to the host or from it any more, and nobody is told."""
        self._tell(self.addresses[name], 0.0, is_cut=True)

    def _tell(self, address: str, round_trip_ms: float, *, is_cut: bool) -> None:
        assert self._wire.stdin is not None
        command = {"address": address, "round_trip_s": round_trip_ms / 1000, "is_cut": is_cut}
        print(json.dumps(command), file=self._wire.stdin, flush=True)
        if not self._answer():
            raise RuntimeError(f"the wire has ended: {self._wire.communicate()[1]}")

    def _answer(self) -> str:
        assert self._wire.stdout is not None
        return self._wire.stdout.readline()


@asynccontextmanager
async def stack_apart(plan: StackPlan, cores: Mapping[str, int] | None = None) -> AsyncIterator[tuple[Hosts, Stack]]:
    """What the plan says; each drafter and verifier on a host that has the service's name, the orchestrator at home.

    Args:
        cores: by the name of the service, the one that it may use; without an entry, any.

    Raises:
        NotPossible: there cannot be such hosts here.
    """
    names = [spec.name for spec in chain(plan.drafters(), *plan.verifiers().values())]
    of = cores or {}
    with Hosts(*names) as hosts:
        places = {name: hosts.place(name, core=of.get(name)) for name in names}
        places["orchestrator"] = hosts.place_at_home(core=of.get("orchestrator"))
        async with Stack(replace(plan, listen=hosts.listen, places=places)) as stack:
            yield hosts, stack


def _prefix(core: int | None) -> tuple[str, ...]:
    pin = () if core is None else ("taskset", "--cpu-list", str(core))
    return ("env", _INSECURE, *pin)


def pin(pid: int, core: int) -> None:
    """Move a running process with all its threads to a core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # one that has just ended
            os.sched_setaffinity(int(thread.name), {core})


async def round_trip_ms(address: str, num_times: int = 9) -> float:
    """As TCP takes it to connect from home to a service on a host; the median."""
    times = []
    for _ in range(num_times):
        begin = time.perf_counter()
        _, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        times.append(1000 * (time.perf_counter() - begin))
        writer.close()
    return median(times)


def _free_subnet() -> str:
    """The first three numbers of a network that this machine has no route to: of those for measuring, RFC 2544."""
    routes = Path("/proc/net/route")
    lines = routes.read_text().splitlines()[1:] if routes.exists() else []
    taken = {_subnet_of(line.split()[1]) for line in lines}
    return random.choice([subnet for subnet in _subnets() if subnet not in taken])


def _subnets() -> Collection[str]:
    return [f"198.{second}.{third}" for second in (18, 19) for third in range(256)]


def _subnet_of(destination: str) -> str:
    """Of an address as the kernel shows it, hexadecimal in the machine's own order of bytes."""
    return socket.inet_ntoa(int(destination, 16).to_bytes(4, sys.byteorder)).rpartition(".")[0]
