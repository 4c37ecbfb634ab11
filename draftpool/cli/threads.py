"""How many threads each model process gets when several share one machine.

A process whose threads spin or outnumber the cores slows down every other one. So each is told how many it
has, and idle threads sleep: on 2 cores, one thread a process was the fastest of all that we measured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SMALL_MACHINE_CORES = 2


@dataclass(frozen=True)
class ThreadPlan:
    """Threads of each drafter and of each verifier process."""

    drafter: int
    verifier: int


def plan_threads(*, num_verifiers: int, num_cores: int) -> ThreadPlan:
    """One thread for a drafter, whose steps are too small to share; the verifiers divide the cores among them."""
    if num_cores <= _SMALL_MACHINE_CORES:
        return ThreadPlan(drafter=1, verifier=1)
    return ThreadPlan(drafter=1, verifier=max(1, num_cores // max(1, num_verifiers)))


def thread_environment(num_threads: int) -> dict[str, str]:
    """Environment variables of a process that shall compute with `num_threads` threads and sleep when idle."""
    return {
        "OMP_NUM_THREADS": str(num_threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }


def num_physical_cores() -> int:
    """Cores this process may use: hyper-threads count once, and a container's CPU quota is respected."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in cpus}
    return max(1, min(len(cores), _quota_cores(_CPU_QUOTA) or len(cores)))


def _siblings(cpu: int) -> str:
    """What identifies the core of a logical CPU; the CPU itself where the system does not tell."""
    path = _TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    return path.read_text().strip() if path.exists() else str(cpu)


def _quota_cores(cpu_max: Path) -> int | None:
    """Whole cores of the control group's quota, at least 1; None without a quota."""
    if not cpu_max.exists():
        return None
    quota, period = cpu_max.read_text().split()
    return None if quota == "max" else max(1, int(quota) // int(period))
