"""The bandit among sessions that make each other wait, in simulated time."""

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import Method, TreeBandit
from orchestrator.bandit.policies import Fixed
from tests.unit.orchestrator.bandit.serving import Costs, Serving

ARMS = (chain(1), chain(2), chain(3), chain(4), TreeShape((3, 2, 2, 1, 1)))
WORLDS = {
    "the orchestrator's core is what all wait for": Costs(),
    "and drafts are seldom right": Costs(likely=0.35),
    "and the drafter has a core of its own": Costs(has_own_drafter=True),
    "the verifier is what all wait for": Costs(plain_s=0.0002, drafted_s=0.0004, has_own_drafter=True),
    "rows are cheap": Costs(0.015, 0.00005, plain_s=0.0002, drafted_s=0.0004, has_own_drafter=True, likely=0.8),
}


def fixed(arm: TreePolicy, num_sessions: int, costs: Costs) -> float:
    """Tokens a second of everybody."""
    return Serving(TreeBandit(ARMS, method=Method(policy=Fixed(arm))), num_sessions, costs).tokens_per_s(40)


@pytest.mark.parametrize("num_sessions", [4, 16, 64])
@pytest.mark.parametrize("world", WORLDS)
def test_drafting_costs_no_throughput_at_any_load_and_brings_what_the_best_tree_brings(
    world: str, num_sessions: int
) -> None:
    """From one session, which the bandit knows, to many: drafting that does not pay is given up at once."""
    costs, bandit = WORLDS[world], TreeBandit(ARMS)
    alone = Serving(bandit, 1, costs)
    alone.tokens_per_s(100)
    bandit.release()  # that session ends
    plain, best = fixed(NO_DRAFT, num_sessions, costs), max(fixed(arm, num_sessions, costs) for arm in ARMS)
    crowd = Serving(bandit, num_sessions, costs, seed=1)
    assert crowd.tokens_per_s(60) > 0.85 * plain
    assert crowd.tokens_per_s(60) > max(0.97 * plain, 0.93 * best)
