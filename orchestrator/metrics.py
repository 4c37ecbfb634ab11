"""What the orchestrator counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram

from draftpool.metrics import SHORT_SECONDS
from orchestrator.fleet import Fleet
from orchestrator.generation import Round
from orchestrator.replicas import PoolState, Replica
from orchestrator.settings import DEFAULT_ARMS

ROUNDS = Counter("draftpool_rounds_total", "Rounds, by target and the tree shape asked for.", ["target", "shape"])
DRAFTED_NODES = Counter("draftpool_drafted_nodes_total", "Tree nodes verified.", ["target"])
ACCEPTED_TOKENS = Counter("draftpool_accepted_tokens_total", "Drafted tokens accepted.", ["target"])
GENERATED_TOKENS = Counter("draftpool_generated_tokens_total", "Tokens emitted.", ["target"])
POOL_REPLICAS = Gauge(
    "draftpool_pool_replicas", "Replicas known, by role and state: up, draining, ejected, down.", ["role", "state"]
)
HEDGED_ROUNDS = Counter(
    "draftpool_hedged_rounds_total", "Rounds that went on without a draft because it was not there in time.", ["target"]
)
LATE_DRAFTS = Counter("draftpool_late_drafts_total", "Rounds that used what was left of a late draft.", ["target"])
FAILOVERS = Counter(
    "draftpool_failovers_total", "Sessions lost within a request that went on, by target and role.", ["target", "role"]
)
ROUND_SECONDS = Histogram("draftpool_round_seconds", "Duration of a round.", ["target"], buckets=SHORT_SECONDS)

RUNNING = Gauge("draftpool_running_requests", "Requests that hold a place.")
WAITING = Gauge("draftpool_waiting_requests", "Requests that wait for a place, by priority.", ["priority"])
REFUSED = Counter(
    "draftpool_refused_requests_total", "Requests that a full queue sent away, by priority.", ["priority"]
)
QUEUE_SECONDS = Histogram(
    "draftpool_queue_seconds", "Wait for a place, by priority.", ["priority"], buckets=(0, *SHORT_SECONDS, 4, 16, 64)
)
COLD_WAITING = Gauge(
    "draftpool_cold_waiting_requests", "Requests that wait for a target to start, by target.", ["target"]
)
COLD_START_SECONDS = Histogram(
    "draftpool_cold_start_seconds",
    "Wait for a target to start, whether it came or not, by target.",
    ["target"],
    buckets=(0.25, 1, 4, 16, 32, 64, 128, 256, 512, 1024),
)
PAUSED = Gauge("draftpool_paused_requests", "Requests whose client does not read; they hold neither place nor session.")


def observe_round(target: str, round_: Round) -> None:
    # Clients may ask for any shape; a label for each would let them fill the memory.
    shape = str(round_.shape) if round_.shape in DEFAULT_ARMS else "other"
    ROUNDS.labels(target, shape).inc()
    DRAFTED_NODES.labels(target).inc(round_.tree.num_nodes)
    ACCEPTED_TOKENS.labels(target).inc(round_.num_accepted)
    GENERATED_TOKENS.labels(target).inc(round_.num_committed)
    if round_.was_hedged:
        HEDGED_ROUNDS.labels(target).inc()
    if round_.draft_was_late:
        LATE_DRAFTS.labels(target).inc()
    if round_.num_drafters_lost:
        FAILOVERS.labels(target, "drafter").inc(round_.num_drafters_lost)
    if round_.num_verifiers_lost:
        FAILOVERS.labels(target, "verifier").inc(round_.num_verifiers_lost)
    ROUND_SECONDS.labels(target).observe(round_.round_us / 1e6)


def watch_pools(fleet: Fleet) -> None:
    """Count the fleet's replicas whenever the metrics are read."""

    def count(replicas: Callable[[], Sequence[Replica]], state: PoolState) -> Callable[[], float]:
        return lambda: sum(replica.state is state for replica in replicas())

    for state in PoolState:
        POOL_REPLICAS.labels("verifier", state).set_function(count(lambda: fleet.verifiers, state))
        POOL_REPLICAS.labels("drafter", state).set_function(count(lambda: fleet.drafters, state))
