"""Prometheus metrics of a verifier replica; `draftpool.metrics` says how they are named."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from draftpool.metrics import SHORT_SECONDS

SESSIONS = Gauge("draftpool_verifier_sessions", "Sessions open now.")
KV_SLOTS_USED = Gauge("draftpool_verifier_kv_slots_used", "Tokens whose keys and values are held.")
KV_SLOTS = Gauge("draftpool_verifier_kv_slots", "Tokens whose keys and values can be held.")
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
