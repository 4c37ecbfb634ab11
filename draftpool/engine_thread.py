"""One thread that owns a model, and the queue by which asyncio talks to it.

Engines are plain synchronous objects without locks: everything that touches one runs here. Each turn
hands the engine every job that waits, so requests that arrive during one turn share the next one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

from draftpool.errors import ContextLost, Draining, NoCapacity
from draftpool.recent import RecentShare

log = logging.getLogger(__name__)

_IDLE_TURN_S = 0.02
"""Between turns in which all jobs wait for something that only time or a call can bring."""

Reply = TypeVar("Reply")


class Job(Generic[Reply]):
    """One request to an engine and the place of its answer."""

    def __init__(self) -> None:
        self.future: Future[Reply] = Future()

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.future.done()

    def answer(self, reply: Reply) -> None:
        with suppress(InvalidStateError):  # the caller may have gone a moment ago
            self.future.set_result(reply)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


JobT = TypeVar("JobT", bound=Job)  # type: ignore[type-arg]


class _Call(Job[None]):
    """Something other than a job that has to run on the engine's thread, between two turns."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self.function = function


class EngineThread(Generic[JobT]):
    """Runs `turn(jobs)` with all waiting jobs until each is answered.

    `turn` answers or fails the jobs it has finished; jobs it leaves open (a long prefill) come again next turn. It says
    whether it did anything; where all jobs wait for something else, the next turn is that of the next arrival,
    or a moment later.
    Before a turn, `hold(jobs)` may say that it should wait so many seconds for others to share it; it is asked again as
    they come.
    An exception out of `turn` fails every job of that turn and nothing else. A job that was alone gets the exception;
    of several, nobody knows whose fault it was, and each is told to come again with its whole context.

    Attributes:
        busy: in which share of the time turns computed, by `time.monotonic`.
    """

    def __init__(
        self,
        turn: Callable[[Sequence[JobT]], bool],
        *,
        name: str,
        max_waiting: int,
        hold: Callable[[Sequence[JobT]], float] = lambda _: 0.0,
    ) -> None:
        self._turn = turn
        self._hold = hold
        self._max_waiting = max_waiting
        self._inbox: queue.SimpleQueue[JobT | _Call | None] = queue.SimpleQueue()
        self._num_waiting = 0
        self._is_closed = False
        self.busy = RecentShare()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Jobs submitted and not yet answered."""
        return self._num_waiting

    async def submit(self, job: JobT) -> object:
        """Queue a job and wait for its answer; cancelling the wait drops the job.

        Raises:
            NoCapacity: `max_waiting` jobs are waiting already.
            Draining: the thread was closed.
        """
        if self._is_closed:
            raise Draining("the engine has been stopped")
        if self._num_waiting >= self._max_waiting:
            raise NoCapacity(f"{self._num_waiting} requests are waiting for the model already", retry_after_s=0.1)
        self._num_waiting += 1
        try:
            self._inbox.put(job)
            return await asyncio.wrap_future(job.future)
        finally:
            self._num_waiting -= 1

    def call(self, function: Callable[[], None]) -> Future[None]:
        """Run a function on the engine's thread between two turns, after everything submitted before it."""
        call = _Call(function)
        if self._is_closed:
            call.answer(None)
        else:
            self._inbox.put(call)
        return call.future

    def close(self) -> None:
        """Stop after the turn in progress; jobs still open fail with `Draining`."""
        if not self._is_closed:
            self._is_closed = True
            self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        jobs: list[JobT] = []
        patience_s: float | None = None
        while self._collect(jobs, patience_s):
            has_computed = True
            begun_s = time.monotonic()
            try:
                if (patience_s := self._hold(jobs)) > 0:
                    continue
                has_computed = self._turn(jobs)
            except Exception as error:
                log.exception("a turn of the engine failed, %d jobs", len(jobs))
                shared = ContextLost("the batch that this request was in failed; open the session again")
                for job in jobs:
                    job.fail(error if len(jobs) == 1 else shared)
            self._count_turn(begun_s, has_computed=has_computed)
            jobs = [job for job in jobs if job.is_open]
            patience_s = None if not jobs else 0 if has_computed else _IDLE_TURN_S
        for job in jobs:
            job.fail(Draining("the engine has been stopped"))

    def _count_turn(self, begun_s: float, *, has_computed: bool) -> None:
        """A turn in which all jobs waited for something else is no work."""
        if has_computed:
            self.busy.add(begun_s, time.monotonic())

    def _collect(self, jobs: list[JobT], patience_s: float | None) -> bool:
        """Add what has arrived to `jobs`. False once closed.

        Args:
            patience_s: how long to wait for a first arrival; None is for ever.
        """
        while True:
            try:
                item = self._inbox.get(block=patience_s != 0, timeout=patience_s)
            except queue.Empty:
                is_complete = True
            else:
                is_complete = False
                if item is None:
                    return False
                if isinstance(item, _Call):
                    self._perform(item)
                else:
                    jobs.append(item)
            jobs[:] = [job for job in jobs if job.is_open]  # others may have been given up meanwhile
            if is_complete and jobs:
                return True
            patience_s = 0 if jobs else None

    @staticmethod
    def _perform(call: _Call) -> None:
        try:
            call.function()
        except Exception as error:
            log.exception("a call on the engine's thread failed")
            call.fail(error)
        else:
            call.answer(None)
