"""Requests against the fake services."""

from collections.abc import Sequence

from draftpool.sampling import SamplingParams
from draftpool.tree import TreeShape, chain
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import RoundOutcome, TreeBandit
from orchestrator.drafting import DraftSource
from orchestrator.fleet import Fleet, Target
from orchestrator.generation import Generation, Limits, Round
from orchestrator.patience import DraftPatience, VerifyPatience
from orchestrator.verifying import VerifySource

GREEDY = SamplingParams(temperature=0)
CHAIN = chain(3)
UNHURRIED = DraftPatience(least_wait_s=2.0, first_wait_s=2.0)
"""Rounds wait for their drafts, however busy the machine is."""


class AttentiveBandit(TreeBandit):
    """Remembers what it was taught."""

    def __init__(self, arms: Sequence[TreePolicy]) -> None:
        super().__init__(arms)
        self.lessons: list[RoundOutcome] = []
        self.charges: list[tuple[TreePolicy, float]] = []

    def observe(self, outcome: RoundOutcome) -> None:
        self.lessons.append(outcome)
        super().observe(outcome)

    def charge(self, policy: TreePolicy, wait_s: float, num_sessions: int) -> None:
        self.charges.append((policy, wait_s))
        super().charge(policy, wait_s, num_sessions)


def bandit(*arms: TreeShape) -> AttentiveBandit:
    return AttentiveBandit(arms)


def generation(
    fleet: Fleet,
    *,
    target: Target | None = None,
    shape: TreeShape | None = CHAIN,
    max_new_tokens: int = 12,
    taught: TreeBandit | None = None,
    draft_patience: DraftPatience = UNHURRIED,
    verify_patience: VerifyPatience | None = None,
) -> Generation:
    """Goes on from "a"; each full round of the default shape commits 4 tokens."""
    target = target or fleet.target("alphabet")
    return Generation(
        [0],
        vocabulary=target.vocabulary,
        limits=Limits(max_new_tokens),
        drafts=DraftSource(fleet, target, GREEDY, patience=draft_patience),
        verifier=VerifySource(target, GREEDY, num_prompt_tokens=1, timeout_s=None, patience=verify_patience),
        bandit=taught or bandit(),
        fixed_shape=shape,
    )


async def run(started: Generation) -> tuple[str, list[Round]]:
    rounds = [round_ async for round_ in started.rounds()]
    return text_of(rounds), rounds


def text_of(rounds: list[Round]) -> str:
    return "".join(token.text for round_ in rounds for token in round_.tokens)
