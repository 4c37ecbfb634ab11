"""Prometheus metrics of a verifier replica; `draftpool.metrics` says how they are named."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from draftpool.metrics import SHORT_SECONDS

SESSIONS = Gauge("draftpool_verifier_sessions", "Sessions open now.")
KV_PAGES = Gauge("draftpool_verifier_kv_pages", "Pages of the KV cache.")
KV_PAGES_HELD = Gauge("draftpool_verifier_kv_pages_held", "Pages that sessions hold.")
KV_PAGES_KEPT = Gauge("draftpool_verifier_kv_pages_kept", "Pages that nobody holds, kept for their content.")
REUSED_TOKENS = Counter("draftpool_verifier_reused_tokens_total", "Tokens not computed, for a page held them already.")
SUSPENDED_SESSIONS = Counter("draftpool_verifier_suspended_sessions_total", "Sessions that lost their pages to others.")
PASS_SECONDS = Histogram(
    "draftpool_verifier_pass_seconds", "A forward pass with its packing and choosing.", buckets=SHORT_SECONDS
)
PASS_TOKENS = Histogram(
    "draftpool_verifier_pass_tokens", "Tokens of a forward pass.", buckets=tuple(2**power for power in range(13))
)
SCORED_NODES = Counter("draftpool_verifier_scored_nodes_total", "Tree nodes scored.")
QUEUE_SECONDS = Histogram(
    "draftpool_verifier_queue_seconds", "From a request's arrival to taking it up.", buckets=SHORT_SECONDS
)
BUSY_SHARE = Gauge(
    "draftpool_verifier_busy_share",
    "Share of the last ten seconds or so in which passes ran, 0 to 1. To watch: one client alone makes it high.",
)
BUDGET_SHARE = Gauge(
    "draftpool_verifier_budget_share",
    "Use of the token budget over the last ten seconds or so, 0 to 1: how full the passes were, and 0 between them. "
    "To scale on: the pool's mean, or its sum over a target share.",
)
BUDGET_SECONDS = Counter(
    "draftpool_verifier_budget_seconds_total",
    "Seconds of passes times how full they were; its rate is the budget share.",
)
RECENT_QUEUE_SECONDS = Gauge(
    "draftpool_verifier_recent_queue_seconds",
    "Mean wait of the requests of the last ten seconds or so until they were taken up. To scale on: the pool's mean.",
)


def count_pass(seconds: float, num_tokens: int, num_nodes: int, budget_share: float) -> None:
    BUDGET_SECONDS.inc(seconds * budget_share)
    PASS_SECONDS.observe(seconds)
    PASS_TOKENS.observe(num_tokens)
    SCORED_NODES.inc(num_nodes)
