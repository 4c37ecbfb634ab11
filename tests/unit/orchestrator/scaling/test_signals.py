"""What pools are scaled by."""

from math import ceil

import pytest

from draftpool.errors import BadParameter
from orchestrator.routing import LoadReport
from orchestrator.scaling.signals import NOTHING_KNOWN, PoolLoad, ScaledPool, is_wanted, signals

DRAFTERS = ScaledPool.from_metadata({"scalerAddress": "x:1", "pool": "drafter", "busyShare": "0.5", "queueMs": "10"})
VERIFIERS = ScaledPool.from_metadata({"target": "llama", "budgetShare": "0.8", "requests": "16"})


def report(*, busy: float = 0.0, budget: float = 0.0, queue_s: float = 0.0, num_sessions: int = 0) -> LoadReport:
    return LoadReport(num_sessions, 32, 0, 0, at_s=0.0, busy_share=busy, budget_share=budget, queue_s=queue_s)


def wanted_replicas(pool: ScaledPool, load: PoolLoad) -> int:
    """As an autoscaler counts them."""
    return max(ceil(signal.value / signal.threshold - 1e-9) for signal in signals(pool, load))


@pytest.mark.parametrize(("busy", "wanted"), [(0.0, 0), (0.1, 1), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_drafters_are_wanted_in_proportion_to_how_busy_they_are(busy: float, wanted: int) -> None:
    assert wanted_replicas(DRAFTERS, PoolLoad([report(busy=busy)] * 2, num_requests=5)) == wanted


def test_a_queue_wants_replicas_where_busy_shares_cannot_grow_any_more() -> None:
    load = PoolLoad([report(busy=1.0, queue_s=0.04)] * 2, num_requests=50)
    assert wanted_replicas(DRAFTERS, load) == 8


def test_verifiers_are_wanted_by_their_token_budget_and_not_by_being_busy() -> None:
    lone_client = PoolLoad([report(busy=1.0, budget=0.05, num_sessions=1)], num_requests=1)
    assert wanted_replicas(VERIFIERS, lone_client) == 1
    full_passes = PoolLoad([report(busy=1.0, budget=0.99, num_sessions=8)] * 3, num_requests=24)
    assert wanted_replicas(VERIFIERS, full_passes) == 4


def test_a_replica_that_is_lost_moves_its_load_and_does_not_make_the_pool_smaller() -> None:
    before = PoolLoad([report(budget=0.6)] * 4, num_requests=10)
    after = PoolLoad([report(budget=0.8)] * 3, num_requests=10)
    assert wanted_replicas(VERIFIERS, before) == wanted_replicas(VERIFIERS, after) == 3


def test_requests_that_wait_for_a_pool_without_replicas_are_counted() -> None:
    assert wanted_replicas(VERIFIERS, PoolLoad([], num_requests=40)) == 3


def test_sessions_of_an_orchestrator_that_cannot_be_asked_are_counted_all_the_same() -> None:
    load = PoolLoad([report(num_sessions=20), report(num_sessions=20)], num_requests=5)
    assert wanted_replicas(VERIFIERS, load) == 3
    assert is_wanted(PoolLoad([report(num_sessions=1)], num_requests=0))


def test_a_pool_that_nobody_asks_is_not_wanted() -> None:
    assert not is_wanted(PoolLoad([report(busy=0.3)], num_requests=0))
    assert is_wanted(PoolLoad([], num_requests=1))


@pytest.mark.parametrize("pool", [DRAFTERS, VERIFIERS])
def test_a_pool_has_the_same_signals_whatever_is_known_of_it(pool: ScaledPool) -> None:
    names = [signal.name for signal in signals(pool, NOTHING_KNOWN)]
    assert names == [signal.name for signal in signals(pool, PoolLoad([report()] * 2, 3))]
    assert all(signal.threshold > 0 for signal in signals(pool, NOTHING_KNOWN))


def test_requests_are_a_signal_only_where_they_have_a_threshold() -> None:
    quiet = ScaledPool.from_metadata({"target": "llama"})
    names = [signal.name for signal in signals(quiet, NOTHING_KNOWN)]
    assert names == ["draftpool-verifier-budget-share", "draftpool-verifier-queue-ms"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "either pool"),
        ({"pool": "verifier"}, "either pool"),
        ({"target": ""}, "either pool"),
        ({"pool": "drafter", "target": "llama"}, "either pool"),
        ({"pool": "drafter", "budgetShare": "0.7"}, "unknown metadata: budgetShare"),
        ({"target": "llama", "busyShare": "0.7"}, "unknown metadata: busyShare"),
        ({"target": "llama", "queueMS": "7"}, "unknown metadata: queueMS"),
        ({"target": "llama", "queueMs": "7ms"}, "queueMs must be a number"),
        ({"target": "llama", "queueMs": "0"}, "queueMs must be a number"),
        ({"target": "llama", "queueMs": "nan"}, "queueMs must be a number"),
        ({"target": "llama", "queueMs": "inf"}, "queueMs must be a number"),
    ],
    ids=str,
)
def test_metadata_that_says_nothing_sensible_is_refused_with_what_would(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        ScaledPool.from_metadata(metadata)
