"""Tensor parallelism: several processes, *ranks*, hold a slice of the model each and compute every pass together.

transformers cuts the model and adds up what the slices give. What is left to do here is that all ranks compute the same
passes: rank 0 has the sessions, decides, chooses tokens and answers requests, and the others *follow* it. All that they
need to know of a pass is its layout, which rank 0 broadcasts before it computes the pass itself.

The broadcasts have a gloo group of their own, whatever the slices talk through. Its timeout is short, so that nobody
waits long for a rank that hangs; a process that ends is noticed at once, for its connections close. So that an idle
leader is not taken for a hanging one, it beats: every few seconds without a pass it calls the others, and they answer.

Ranks that failed to compute a pass together are out of step for good. The leader then ends, with a sentence that says
so, and whoever started it (torchrun, Kubernetes) starts all of them again.
"""

from __future__ import annotations

import enum
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from draftpool.errors import Unavailable
from verifier_service.packing import PassLayout
from verifier_service.runner import Runner

log = logging.getLogger(__name__)

LEADER = 0

_BEAT_S = 10.0
_CONTROL_TIMEOUT = timedelta(seconds=60)
"""Of a broadcast: the ranks come to it within a pass of each other, or within a beat."""
_PASS_TIMEOUT = timedelta(minutes=10)
"""Of a sum inside of a pass, where the ranks are within a layer of each other."""
_LOADING_TIMEOUT = timedelta(hours=2)
"""Of the ranks' first meeting: one may have downloaded the model, another found it in a cache."""

_FIRST_BYTES = 8192
"""Of a command that travel with its length: nearly every layout is shorter, and then one broadcast does."""


class GroupLost(Unavailable):
    """A rank is gone or out of step; this replica has to be started again."""

    reason = "GROUP_LOST"


class Signal(enum.Enum):
    """What a leader can tell its followers beside a layout."""

    BEAT = "answer that you are there"
    STOP = "there will be no more passes"


@dataclass(frozen=True)
class RankGroup:
    """The ranks as one of them sees them.

    Attributes:
        rank: this process; 0 leads.
        num_ranks: of the group.
        control: the leader's broadcasts go through it.
    """

    rank: int
    num_ranks: int
    control: Any

    @property
    def is_leader(self) -> bool:
        return self.rank == LEADER

    def meet(self) -> None:
        """Wait until every rank has come here, however long it took to load its slice.

        Raises:
            GroupLost: one did not come.
        """
        try:
            dist.monitored_barrier(self.control, timeout=_LOADING_TIMEOUT)
        except RuntimeError as error:
            raise GroupLost(f"not all of {self.num_ranks} ranks have loaded the model: {error}") from error

    def send(self, command: PassLayout | Signal) -> None:
        """Broadcast a command from the leader.

        Raises:
            RuntimeError: a rank is gone.
        """
        payload = torch.frombuffer(bytearray(pickle.dumps(command)), dtype=torch.uint8)
        first = torch.zeros(8 + _FIRST_BYTES, dtype=torch.uint8)
        first[:8] = torch.tensor([len(payload)]).view(torch.uint8)
        head, rest = payload[:_FIRST_BYTES], payload[_FIRST_BYTES:]
        first[8 : 8 + len(head)] = head
        dist.broadcast(first, LEADER, group=self.control)
        if len(rest):
            dist.broadcast(rest, LEADER, group=self.control)

    def receive(self) -> PassLayout | Signal:
        """The leader's next command; it is trusted, being another process of the same program.

        Raises:
            GroupLost: the leader is gone.
        """
        first = torch.empty(8 + _FIRST_BYTES, dtype=torch.uint8)
        try:
            dist.broadcast(first, LEADER, group=self.control)
            num_bytes = int(first[:8].view(torch.int64))
            rest = torch.empty(max(0, num_bytes - _FIRST_BYTES), dtype=torch.uint8)
            if len(rest):
                dist.broadcast(rest, LEADER, group=self.control)
        except RuntimeError as error:
            raise GroupLost(f"rank {self.rank} has lost rank {LEADER}: {_first_line(error)}") from error
        payload = torch.cat([first[8 : 8 + min(num_bytes, _FIRST_BYTES)], rest])
        command: PassLayout | Signal = pickle.loads(payload.numpy().tobytes())
        return command

    def answer(self) -> None:
        """Be counted, with all the others.

        Raises:
            RuntimeError: a rank is gone.
        """
        dist.barrier(self.control)


class LeadingRunner:
    """A runner that has the other ranks compute every pass with it. Close it to let them go.

    Args:
        runner: of the leader's own slice.
        on_lost: called once, on whatever thread notices, when the group is lost.
        beat_s: how long it may say nothing.
    """

    def __init__(
        self, runner: Runner, group: RankGroup, *, on_lost: Callable[[], None], beat_s: float = _BEAT_S
    ) -> None:
        self.loss: GroupLost | None = None
        self._runner = runner
        self._group = group
        self._on_lost = on_lost
        self._beat_s = beat_s
        self._sending = threading.Lock()
        self._was_busy = False
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="verifier-heart", daemon=True)
        self._heart.start()

    def run(self, layout: PassLayout) -> Tensor:
        """See `Runner.run`.

        Raises:
            GroupLost: the ranks did not all compute it; no pass after it will be computed either.
        """
        with self._sending:
            if self.loss is not None:
                raise self.loss
            try:
                self._group.send(layout)
                self._was_busy = True
                return self._runner.run(layout)
            except Exception as error:
                raise self._lose(error) from error

    def close(self) -> None:
        """Let the followers go; safe to repeat."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._heart.join()
        if self.loss is None:
            try:
                self._group.send(Signal.STOP)
            except RuntimeError as error:
                log.warning("a rank was gone before it was told to stop: %s", _first_line(error))

    def _beat(self) -> None:
        while not self._closed.wait(self._beat_s):
            with self._sending:
                if self.loss is not None:
                    return
                if not self._was_busy:
                    self._ask_for_answers()
                self._was_busy = False

    def _ask_for_answers(self) -> None:
        try:
            self._group.send(Signal.BEAT)
            self._group.answer()
        except RuntimeError as error:
            self._lose(error)

    def _lose(self, error: Exception) -> GroupLost:
        self.loss = GroupLost(
            f"the {self._group.num_ranks} ranks no longer compute together and must be started again: "
            f"{_first_line(error)}"
        )
        log.error("%s", self.loss, exc_info=error)
        self._on_lost()
        return self.loss


def follow(runner: Runner, group: RankGroup) -> None:
    """Compute what the leader computes until it says that there is no more.

    Raises:
        GroupLost: the leader is gone.
    """
    while (command := group.receive()) is not Signal.STOP:
        if isinstance(command, PassLayout):
            runner.run(command)
        else:
            group.answer()


def num_ranks() -> int:
    """How many processes torchrun, or whoever sets all of its environment, has started for this model."""
    is_launched = os.environ.keys() >= {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    return int(os.environ["WORLD_SIZE"]) if is_launched else 1


@contextmanager
def joined(device: torch.device) -> Iterator[RankGroup]:
    """The group of ranks, for as long as the context lasts.

    Args:
        device: of the kind that each rank has one of.

    Raises:
        GroupLost: the ranks do not find each other.
    """
    backend = dist.get_default_backend_for_device(device)
    bound = None
    if device.type != "cpu":
        bound = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
        torch.accelerator.set_device_index(bound)
    try:
        # Only NCCL wants to know the device beforehand.
        dist.init_process_group(backend, timeout=_PASS_TIMEOUT, device_id=bound if backend == "nccl" else None)
        control = dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT)
    except RuntimeError as error:
        raise GroupLost(f"the ranks do not find each other: {_first_line(error)}") from error
    yield RankGroup(dist.get_rank(), dist.get_world_size(), control)
    # Not after an error: it would wait for ranks that are gone.
    dist.destroy_process_group()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
