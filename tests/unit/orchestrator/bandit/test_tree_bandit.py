"""The bandit as a whole, in planted worlds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import pytest

from draftpool.tree import NO_DRAFT, ROOT, DraftTree, TreeShape, chain
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import LocalSums, Method, RoundOutcome, Situation, TreeBandit, VerifiedTree
from orchestrator.bandit.nesting import nested_lessons
from orchestrator.bandit.passes import VerifyPass
from orchestrator.bandit.policies import Estimate, Fixed, UcbTuned
from orchestrator.bandit.tree_bandit import load_class
from tests.unit.orchestrator.bandit.serving import drawn

ARMS = (chain(2), chain(4), TreeShape((3, 2, 2, 1, 1)))


@dataclass
class World:
    """Chains are right at every level with some probability, and wider trees more often. All sessions are in one pass,
    where every row takes its time."""

    likely: float
    row_s: float = 0.0002
    num_sessions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def round(self, arm: TreePolicy) -> RoundOutcome:
        assert isinstance(arm, TreeShape)
        tree = drawn(arm)
        accepted: list[int] = []
        num_children = [0] * (tree.num_nodes + 1)
        chances = {ROOT: self._rng.random()}
        for node, parent in enumerate(tree.parents):
            rank = num_children[parent]
            num_children[parent] += 1
            is_next = parent == (accepted[-1] if accepted else ROOT)
            if is_next and chances[parent] < 1 - (1 - self.likely) ** (rank + 1):
                accepted.append(node)
                chances[node] = self._rng.random()
        num_rows = self.num_sessions * (1 + arm.num_nodes)
        pass_s = (0.01 + self.row_s * num_rows) * self._rng.uniform(0.8, 1.2)
        draft_s = 0.0005 * arm.depth * self._rng.uniform(0.8, 1.2)
        verified = VerifiedTree(arm, tree, accepted, len(accepted) + 1)
        together = VerifyPass(self.num_sessions, num_rows, pass_s)
        return RoundOutcome(verified, draft_s + pass_s, draft_s, pass_s, self.num_sessions, together)

    def run(self, bandit: TreeBandit, num_rounds: int) -> list[TreePolicy]:
        choices = []
        for _ in range(num_rounds):
            choices.append(bandit.choose())
            bandit.release()
            bandit.observe(self.round(choices[-1]))
        return choices


EASY = World(likely=0.9)
"""The chain of 4 is best."""
HOPELESS = World(likely=0.02, row_s=0.001)
WIDE = World(likely=0.55, row_s=0.00002)
"""The tree is best."""


@pytest.mark.parametrize(("world", "best"), [(EASY, chain(4)), (HOPELESS, NO_DRAFT), (WIDE, ARMS[-1])])
def test_the_best_arm_is_found_and_played(world: World, best: TreePolicy) -> None:
    choices = world.run(TreeBandit(ARMS), 400)
    assert choices[100:].count(best) > 0.85 * 300


def test_a_shifted_world_is_learned_again() -> None:
    bandit = TreeBandit(ARMS, method=Method(yield_half_life=100, timing_half_life=100))
    assert EASY.run(bandit, 1000)[-200:].count(chain(4)) > 150
    assert HOPELESS.run(bandit, 1000)[-200:].count(NO_DRAFT) > 150
    assert EASY.run(bandit, 1000)[-200:].count(chain(4)) > 150


def test_stalled_rounds_do_not_bury_the_best_arm() -> None:
    bandit = TreeBandit(ARMS)
    EASY.run(bandit, 200)
    stalled = EASY.round(chain(4))
    for _ in range(2):
        bandit.observe(RoundOutcome(stalled.verified, 60.0, 30.0, 30.0, 1))
    assert EASY.run(bandit, 100)[20:].count(chain(4)) > 60


def test_one_round_of_the_largest_tree_tells_of_every_arm_nested_in_it() -> None:
    bandit = TreeBandit(ARMS)
    bandit.observe(EASY.round(ARMS[-1]))
    assert [state.estimate.num_rounds for state in bandit.state(1).arms] == [1] * 4


def test_a_policy_that_is_no_arm_teaches_what_is_nested_in_it_and_what_rounds_take() -> None:
    bandit = TreeBandit((chain(2),))
    world = World(likely=0.9)
    for _ in range(20):
        bandit.observe(world.round(chain(9)))
    (state,) = (state for state in bandit.state(1).arms if state.estimate.arm == chain(2))
    assert state.estimate.num_rounds == pytest.approx(20, rel=0.01)
    assert state.brought.num_tokens > 2.4


def test_acceptance_is_learned_for_all_loads_and_times_for_each() -> None:
    """Under load nodes are dear; the load is what the verifier reported last."""
    bandit, alone, busy = TreeBandit(ARMS), World(0.8, row_s=0.002), World(0.8, row_s=0.002, num_sessions=32)
    alone.run(bandit, 200)
    busy.run(bandit, 100)
    assert busy.run(bandit, 100).count(NO_DRAFT) > 80
    alone.run(bandit, 1)
    assert alone.run(bandit, 50).count(NO_DRAFT) < 5


def test_a_load_that_is_new_starts_from_its_nearest_neighbours_times() -> None:
    """What is known of heavy loads: nodes are dear; of light ones: they are cheap."""
    bandit, alone, busy = TreeBandit(ARMS), World(0.8, row_s=0.002), World(0.8, row_s=0.002, num_sessions=16)
    for arm in [NO_DRAFT, *ARMS] * 100:
        bandit.observe(busy.round(arm))
        bandit.observe(alone.round(arm))
    assert _best_known(bandit, 32) == NO_DRAFT
    assert _best_known(bandit, 2) == chain(4)


def _best_known(bandit: TreeBandit, num_sessions: int) -> TreePolicy:
    return max(bandit.state(load_class(num_sessions)).arms, key=lambda state: state.estimate.reward).estimate.arm


def test_plain_rounds_are_played_until_they_are_measured_and_again_when_they_are_forgotten() -> None:
    choices = EASY.run(TreeBandit(ARMS, method=Method(timing_half_life=50)), 300)
    assert choices[:2] == [NO_DRAFT] * 2
    assert 3 < choices[10:].count(NO_DRAFT) < 20


def test_a_fixed_arm_is_played_from_the_first_round() -> None:
    assert set(EASY.run(TreeBandit(ARMS, method=Method(policy=Fixed(chain(2)))), 20)) == {chain(2)}


def test_bandits_over_the_same_sums_know_the_same() -> None:
    sums, situation = LocalSums(), Situation("target", "drafter", "greedy")
    first, second = (TreeBandit(ARMS, situation=situation, sums=sums) for _ in range(2))
    EASY.run(first, 100)
    assert second.state(1).arms == first.state(1).arms
    other = TreeBandit(ARMS, situation=Situation("target", "drafter", "sampled"), sums=sums)
    assert {state.estimate.num_rounds for state in other.state(1).arms} == {0}


def test_loads_are_alike_within_a_factor_of_two() -> None:
    assert [load_class(sessions) for sessions in (0, 1, 2, 3, 4, 7, 8, 10**6)] == [1, 1, 2, 2, 3, 3, 4, 12]


def test_what_is_not_curious_never_tries_a_hopeless_arm_twice() -> None:
    bandit = TreeBandit((chain(2),), method=Method(policy=UcbTuned(0)))
    assert HOPELESS.run(bandit, 100)[-50:].count(NO_DRAFT) == 50


def test_waiting_in_vain_is_charged_to_what_was_asked_for() -> None:
    bandit, dear = TreeBandit(ARMS), max(ARMS, key=lambda arm: arm.num_nodes)
    EASY.run(bandit, 200)
    before = round_seconds(bandit)
    for _ in range(50):
        bandit.charge(dear, 5.0, num_sessions=1)
    after = round_seconds(bandit)
    assert after[dear] > 2 * before[dear]
    assert all(after[arm] == before[arm] for arm in before if arm != dear)
    assert bandit.choose() != dear


def round_seconds(bandit: TreeBandit) -> dict[TreePolicy, float]:
    return {arm.estimate.arm: arm.round_s for arm in bandit.state(bandit.load_class).arms}


def test_the_rest_of_a_late_tree_says_nothing_about_whole_ones() -> None:
    verified = VerifiedTree(ARMS[-1], DraftTree((1,), (ROOT,)), (0,), 2, is_rest=True)
    assert nested_lessons(verified, ARMS) == []


def test_sessions_that_run_side_by_side_play_the_same_arm_for_two_rounds_each() -> None:
    bandit, num_sessions = TreeBandit(ARMS, method=Method(policy=Curious())), 32
    stint = [bandit.choose() for _ in range(num_sessions)]
    for _ in range(10 * num_sessions):
        bandit.release()
        stint.append(bandit.choose())
    lengths = [len(list(run)) for _, run in groupby(stint)]
    assert set(lengths[-3:-1]) == {2 * num_sessions}


def test_a_session_on_its_own_chooses_every_round() -> None:
    bandit, choices = TreeBandit(ARMS, method=Method(policy=Curious())), []
    for _ in range(8):
        choices.append(bandit.choose())
        bandit.release()
    assert all(first != second for first, second in pairwise(choices))


class Curious:
    """Another arm at every choice."""

    def __init__(self) -> None:
        self._num_choices = 0

    def __call__(self, estimates: Sequence[Estimate]) -> list[float]:
        self._num_choices += 1
        return [float(place == self._num_choices % len(estimates)) for place in range(len(estimates))]


def test_a_row_is_a_row_passes_of_many_sessions_tell_what_nodes_cost_among_them() -> None:
    """Nobody has drafted among so many, and to one session nodes were cheap."""
    bandit, row_s = TreeBandit(ARMS), 0.0005
    for arm in [NO_DRAFT, *ARMS] * 20:
        bandit.observe(alone(arm, row_s))
    for _ in range(64):
        pass_s = 0.01 + 64 * row_s
        plain = VerifiedTree(NO_DRAFT, drawn(NO_DRAFT), (), 1)
        bandit.observe(RoundOutcome(plain, pass_s, 0.0, pass_s, 64, VerifyPass(64, 64, pass_s)))
    seconds = {arm.estimate.arm: arm.round_s for arm in bandit.state(load_class(64)).arms}
    assert seconds[ARMS[-1]] == pytest.approx(0.01 + 64 * 46 * row_s, rel=0.25)
    assert seconds[chain(4)] == pytest.approx(0.01 + 64 * 5 * row_s, rel=0.25)


def alone(arm: TreeShape, row_s: float) -> RoundOutcome:
    tree = drawn(arm)
    accepted = tuple(range(min(2, arm.depth)))
    pass_s = 0.01 + (1 + tree.num_nodes) * row_s
    verified = VerifiedTree(arm, tree, accepted, len(accepted) + 1)
    return RoundOutcome(verified, pass_s, 0.0, pass_s, 1, VerifyPass(1, 1 + tree.num_nodes, pass_s))


def test_a_few_odd_rounds_among_many_sessions_do_not_make_everything_forgotten() -> None:
    bandit, crowd = TreeBandit(ARMS), World(likely=0.9, num_sessions=64)
    crowd.run(bandit, 64 * 40)
    before = bandit.state(load_class(64)).num_rounds
    quick = crowd.round(NO_DRAFT)
    for _ in range(3):
        bandit.observe(replace(quick, round_s=0.0001))
    assert bandit.state(load_class(64)).num_rounds > 0.9 * before


def test_plain_rounds_make_little_forgotten_of_trees() -> None:
    bandit = TreeBandit(ARMS)
    EASY.run(bandit, 200)
    before = rounds_that_told(bandit)
    for _ in range(2000):
        bandit.observe(EASY.round(NO_DRAFT))
    assert all(after > 0.9 * before[arm] for arm, after in rounds_that_told(bandit).items())


@pytest.mark.parametrize("seed", range(4))
def test_who_has_not_drafted_for_long_finds_out_soon_that_it_pays_again(seed: int) -> None:
    """What is known of times fades, so trees are tried now and then."""
    hopeless, easy = World(likely=0.02, row_s=0.001, seed=seed), World(likely=0.9, seed=seed)
    bandit = TreeBandit(ARMS)
    assert hopeless.run(bandit, 5000)[-200:].count(NO_DRAFT) > 180
    assert easy.run(bandit, 2000)[-200:].count(chain(4)) > 180


def rounds_that_told(bandit: TreeBandit) -> dict[TreePolicy, float]:
    return {
        arm.brought.arm: arm.brought.num_rounds for arm in bandit.state(bandit.load_class).arms if arm.brought.depth
    }


def test_what_one_session_drew_is_priced_as_if_all_had_drawn_it() -> None:
    """Of 32 sessions some draft, at the cost of all: their own rounds are no longer than anybody's in the same pass."""
    bandit, rng, num_sessions = TreeBandit((chain(2),), method=Method(policy=UcbTuned(0))), random.Random(0), 32
    for _ in range(300):
        num_drafting = rng.randrange(num_sessions + 1)
        arms = [chain(2)] * num_drafting + [NO_DRAFT] * (num_sessions - num_drafting)
        pass_nodes = sum(arm.num_nodes for arm in arms) / num_sessions
        pass_s = 0.01 + num_sessions * 0.001 * (1 + pass_nodes)
        together = VerifyPass(num_sessions, round(num_sessions * (1 + pass_nodes)), pass_s)
        for arm in arms:
            tree = drawn(arm)
            accepted = tuple(range(tree.num_nodes))[: rng.choice((0, 1, 2))]
            verified = VerifiedTree(arm, tree, accepted, len(accepted) + 1)
            bandit.observe(RoundOutcome(verified, pass_s, 0.0, pass_s, num_sessions, together))
    seconds = round_seconds(bandit)
    assert seconds[chain(2)] == pytest.approx(0.01 + num_sessions * 0.003, rel=0.15)
    assert seconds[NO_DRAFT] == pytest.approx(0.01 + num_sessions * 0.001, rel=0.15)
    assert bandit.choose() == NO_DRAFT


@pytest.mark.parametrize(("node_s", "pays"), [(0.0001, True), (0.001, False)])
def test_what_pays_for_one_session_and_slows_the_others_down_is_not_chosen(node_s: float, pays: bool) -> None:
    """Passes of 32 sessions, each node as dear as a token: drafting alone is nearly free, drafting together is not."""
    bandit, rng, num_sessions = TreeBandit((chain(2),)), random.Random(0), 32
    late = []
    for turn in range(60):
        arms = [bandit.choose() for _ in range(num_sessions)]
        late += arms if turn >= 40 else []
        pass_nodes = sum(arm.num_nodes for arm in arms) / num_sessions
        pass_s = 0.01 + num_sessions * (0.001 + node_s * pass_nodes)
        together = VerifyPass(num_sessions, round(num_sessions * (1 + pass_nodes)), pass_s)
        for arm in arms:
            bandit.release()
            tree = drawn(arm)
            accepted = tuple(range(tree.num_nodes))[: rng.choice((0, 1, 2))]
            verified = VerifiedTree(arm, tree, accepted, len(accepted) + 1)
            bandit.observe(RoundOutcome(verified, pass_s, 0.0, pass_s, num_sessions, together))
    assert (late.count(chain(2)) > 0.9 * len(late)) == pays
    assert (late.count(NO_DRAFT) > 0.9 * len(late)) != pays
