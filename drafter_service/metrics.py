"""Prometheus metrics of a drafter replica; `draftpool.metrics` says how they are named."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from drafter_service.engine import DraftResult
from drafter_service.state_pool import StatePool
from draftpool.metrics import SHORT_SECONDS

SESSIONS = Gauge("draftpool_drafter_sessions", "Sessions open now.")
SLOTS_USED = Gauge("draftpool_drafter_state_slots_used", "State slots that sessions and their trees hold.")
SLOTS = Gauge("draftpool_drafter_state_slots", "State slots there are.")
DRAFTS = Counter("draftpool_drafter_drafts_total", "Requests answered, with a tree or an empty one.")
NODES = Counter("draftpool_drafter_nodes_total", "Tree nodes proposed.")
DRAFT_SECONDS = Histogram(
    "draftpool_drafter_draft_seconds", "From taking a request up to its reply.", buckets=SHORT_SECONDS
)
QUEUE_SECONDS = Histogram(
    "draftpool_drafter_queue_seconds", "From a request's arrival to taking it up.", buckets=SHORT_SECONDS
)
BUSY_SHARE = Gauge(
    "draftpool_drafter_busy_share",
    "Share of the last ten seconds or so in which the model computed, 0 to 1. To scale on: the pool's mean, or its sum "
    "over a target share.",
)
RECENT_QUEUE_SECONDS = Gauge(
    "draftpool_drafter_recent_queue_seconds",
    "Mean wait of the requests of the last ten seconds or so until they were taken up. To scale on: the pool's mean.",
)


def watch_pool(pool: StatePool) -> None:
    """Let the gauges read this pool."""
    SESSIONS.set_function(lambda: pool.num_sessions)
    SLOTS_USED.set_function(lambda: pool.num_used)
    SLOTS.set(pool.num_slots)


def count_draft(draft: DraftResult) -> None:
    DRAFTS.inc()
    NODES.inc(draft.tree.num_nodes)
    DRAFT_SECONDS.observe(draft.draft_us / 1e6)
    QUEUE_SECONDS.observe(draft.queue_us / 1e6)
