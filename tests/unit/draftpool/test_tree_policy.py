import pytest

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import BestFirst
from draftpool.wire import policy_from_wire, policy_to_wire


def test_a_best_first_tree_never_has_more_levels_than_nodes() -> None:
    assert BestFirst(max_nodes=3, max_depth=8).depth == 3


def test_a_budget_can_be_kept_within_nodes_and_levels() -> None:
    policy = BestFirst(max_nodes=16, max_depth=6)
    assert policy.within(8) == BestFirst(8, 6)
    assert policy.within(99) == policy
    assert policy.no_deeper_than(2) == BestFirst(16, 2)
    assert policy.within(0) == policy.no_deeper_than(0) == policy.no_deeper_than(-1) == NO_DRAFT


@pytest.mark.parametrize(("max_nodes", "max_depth"), [(0, 1), (1, 0)])
def test_a_budget_of_nothing_is_refused(max_nodes: int, max_depth: int) -> None:
    with pytest.raises(BadParameter, match="at least one"):
        BestFirst(max_nodes, max_depth)


def test_policies_pass_the_wire_unchanged() -> None:
    for policy in (NO_DRAFT, BestFirst(16, 6)):
        assert policy_from_wire(policy_to_wire(policy)) == policy


def test_budgets_beyond_what_can_be_sent_are_refused() -> None:
    message = policy_to_wire(BestFirst(16, 6))
    message.best_first.max_nodes = 2**31
    with pytest.raises(BadParameter, match="can be asked for"):
        policy_from_wire(message)
