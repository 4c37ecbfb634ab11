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


def count_pass(seconds: float, num_tokens: int, num_nodes: int) -> None:
    PASS_SECONDS.observe(seconds)
    PASS_TOKENS.observe(num_tokens)
    SCORED_NODES.inc(num_nodes)
