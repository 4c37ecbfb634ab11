from draftpool.tree import TreeShape, chain
from orchestrator.bandit import BanditRegistry, LocalSums, Method, Situation

TREE = TreeShape((3, 2, 2, 1, 1))


def test_a_situation_has_one_bandit_with_the_arms_that_its_services_take() -> None:
    bandits = BanditRegistry((chain(2), TREE), LocalSums(), Method())
    situation = Situation("target", "drafter", "greedy")
    small, large = bandits.bandit(situation, 8), bandits.bandit(situation, 64)
    assert TREE in large.arms
    assert TREE not in small.arms
    assert bandits.bandit(situation, 8) is small
    assert bandits.bandit(Situation("target", "drafter", "sampled"), 8) is not small
    assert len(bandits.bandits) == 3
