"""Times under one load, lent to another."""

import pytest

from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.borrowing import with_borrowed
from orchestrator.bandit.passes import NodePrice
from orchestrator.bandit.timing import RoundTimes
from tests.unit.orchestrator.bandit.test_timing import (
    ARMS,
    DRAFTING,
    LEVEL_S,
    NODE_S,
    PLAIN_S,
    learned,
    planted_s,
    timed,
)


def test_borrowed_rounds_have_the_neighbours_proportions_at_the_own_pace_and_node_price() -> None:
    def here_s(arm: TreePolicy) -> float:
        return 3 * (PLAIN_S + LEVEL_S * arm.depth) + NODE_S * arm.num_nodes

    neighbour = learned([timed(arm, planted_s(arm)) for arm in ARMS * 100])
    own = learned([timed(DRAFTING[0], here_s(DRAFTING[0]))])
    times = with_borrowed(RoundTimes(own.sums, neighbour.node_price), neighbour, 20)
    assert times.num_rounds == pytest.approx(20)
    for arm in ARMS:
        assert times.arm_seconds(arm, arm.num_nodes, arm.depth)[0] == pytest.approx(here_s(arm), rel=0.1)


def test_borrowed_nodes_cost_what_they_cost_here() -> None:
    """Among many sessions a node is dearer by far, as passes tell."""
    neighbour = learned([timed(arm, planted_s(arm)) for arm in ARMS * 100])
    lent = RoundTimes(neighbour.sums, NodePrice(NODE_S, weight=256))
    times = with_borrowed(RoundTimes({}, NodePrice(NODE_S + 0.004, weight=256)), lent, 20)
    assert times.plain_s == pytest.approx(PLAIN_S, rel=0.1)
    for arm in DRAFTING:
        expected_s = planted_s(arm) + 0.004 * arm.num_nodes
        assert times.arm_seconds(arm, arm.num_nodes, arm.depth)[0] == pytest.approx(expected_s, rel=0.25)
