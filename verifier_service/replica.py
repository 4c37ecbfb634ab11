"""One verifier replica, put together from its settings: target, KV pool, engine and thread."""

from __future__ import annotations

import time

from draftpool.engine_thread import EngineThread
from draftpool.recent import RecentMean
from draftpool.v1 import load_pb2
from draftpool.wire import load_to_wire
from verifier_service import metrics
from verifier_service.engine import TargetEngine
from verifier_service.job import VerifyJob
from verifier_service.limits import EngineLimits
from verifier_service.pages import PagePool
from verifier_service.readiness import ReadyTarget, load, make_ready
from verifier_service.schedule import PassLimits
from verifier_service.settings import VerifierSettings
from verifier_service.target import Target


class VerifierReplica:
    """What the servicer calls. Close it to stop the engine's thread.

    Args:
        ready: made of the same settings; made here without it.

    Raises:
        ModelNotServable: the model cannot be served, or the memory given does not hold its cache.
        BadParameter: settings that do not fit together.
    """

    def __init__(self, settings: VerifierSettings, ready: ReadyTarget | None = None) -> None:
        ready = ready or make_ready(load(settings), settings)
        self.settings = settings
        self.target = ready.target
        self.pool = ready.pool
        self.limits = EngineLimits(
            max_sessions=settings.max_sessions,
            max_context_tokens=_max_context_tokens(self.target, self.pool, settings),
            max_tree_nodes=settings.max_tree_nodes,
            of_pass=PassLimits(settings.max_pass_tokens, settings.prefill_chunk_tokens),
            max_idle_s=settings.max_idle_s,
        )
        self.engine = TargetEngine(ready.runner, self.pool, self.limits, self.target.vocab_size)
        self.thread: EngineThread[VerifyJob] = EngineThread(
            self.engine.turn,
            name="verifier-engine",
            max_waiting=settings.max_waiting,
            hold=self.engine.hold_s if settings.gather else lambda _: 0.0,
        )
        self.queue = RecentMean()
        self._watch()

    def load(self) -> load_pb2.ReplicaLoad:
        """How busy it is now."""
        now_s = time.monotonic()
        return load_to_wire(
            num_sessions=self.engine.num_sessions,
            max_sessions=self.limits.max_sessions,
            num_waiting=self.thread.num_waiting,
            busy_share=self.thread.busy.at(now_s),
            queue_s=self.queue.at(now_s),
            budget_share=self.engine.budget.at(now_s),
        )

    def count_wait(self, queue_us: int) -> None:
        """A request had waited so long when it was taken up."""
        metrics.QUEUE_SECONDS.observe(queue_us / 1e6)
        self.queue.observe(queue_us / 1e6, time.monotonic())

    def close(self) -> None:
        self.thread.close()

    def _watch(self) -> None:
        """Let the gauges read this replica."""
        metrics.SESSIONS.set_function(lambda: self.engine.num_sessions)
        metrics.KV_PAGES.set(self.pool.num_pages)
        metrics.KV_PAGES_HELD.set_function(lambda: self.pool.num_held)
        metrics.KV_PAGES_KEPT.set_function(lambda: self.pool.num_kept)
        metrics.BUSY_SHARE.set_function(lambda: self.thread.busy.at(time.monotonic()))
        metrics.BUDGET_SHARE.set_function(lambda: self.engine.budget.at(time.monotonic()))
        metrics.RECENT_QUEUE_SECONDS.set_function(lambda: self.queue.at(time.monotonic()))


def _max_context_tokens(target: Target, pool: PagePool, settings: VerifierSettings) -> int:
    """A text this long fits in the model's positions and, with the largest tree, in an empty pool."""
    possible = min(target.max_context_tokens, pool.num_pages * pool.page_tokens - settings.max_tree_nodes)
    return min(possible, settings.max_context_tokens or possible)
