"""How sharing goes. Imported where there is a Redis alone, so that without one there are no such metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("draftpool_sharing_connected", "Whether Redis answers, 1 or 0.")
MERGES = Counter("draftpool_sharing_merges_total", "Groups merged with Redis, or fetched from it.")
FAILURES = Counter("draftpool_sharing_failures_total", "Rounds of merges that failed, by trouble.", ["trouble"])
LAST_MERGE = Gauge(
    "draftpool_sharing_last_merge_timestamp_seconds", "When Redis last answered, in Unix seconds; 0 before it has."
)
