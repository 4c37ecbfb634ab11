"""Which tree to ask for next, learned from every round.

Three things are kept apart. What an arm *brings* depends on target, drafter and sampling, and one round tells of many
arms (`nesting`, `yields`). What a round *takes* depends on target, drafter and load (`timing`). What follows from both
is a matter of taste (`rewards`, `policies`).

Source: the bandit over tree shapes of "Mamba Drafters for Speculative Decoding", arXiv:2506.01206.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.nesting import Teaching, VerifiedTree, nested_lessons
from orchestrator.bandit.policies import Estimate, Policy, UcbTuned, choose
from orchestrator.bandit.rewards import Pricing, measured_reward
from orchestrator.bandit.sums import LocalSums, Sums
from orchestrator.bandit.timing import RoundTimes, TimedRound, timing_amounts
from orchestrator.bandit.yields import Yield, arm_yield, yield_amounts

_MAX_LOAD_CLASS = 12
_BORROWED_ROUNDS = 8.0
"""A load class that is new starts as if it had seen so many rounds of its nearest neighbour's."""

_KEEP_WHEN_CHANGED = 0.5


@dataclass(frozen=True)
class Situation:
    """What else decides which arm is best, besides the load.

    Attributes:
        drafter: the drafter's model.
        sampling: the class of sampling; requests of one class share what they learn.
    """

    target: str
    drafter: str
    sampling: str


@dataclass(frozen=True)
class RoundOutcome:
    """What a round brought and took."""

    verified: VerifiedTree
    round_s: float
    draft_s: float
    verify_s: float
    num_sessions: int = 1


@dataclass(frozen=True)
class Method:
    """How a bandit decides and how long it remembers.

    Attributes:
        yield_half_life, timing_half_life: rounds until evidence has half its weight; infinite for ever.
        teaching: what a round says about which arms.
    """

    policy: Policy = field(default_factory=lambda: UcbTuned(0.5))
    pricing: Pricing = measured_reward
    yield_half_life: float = 2000.0
    timing_half_life: float = 300.0
    teaching: Teaching = nested_lessons


@dataclass(frozen=True)
class ArmState:
    """An arm as it stands under one load, for people to look at.

    Attributes:
        index: what the policy ranks it by.
        plain_rounds: what a round of it takes, in plain rounds.
    """

    estimate: Estimate
    brought: Yield
    plain_rounds: float
    index: float


class TreeBandit:
    """The arms of one situation; all evidence is in the sums, which bandits share."""

    def __init__(
        self,
        arms: Sequence[TreePolicy],
        *,
        situation: Situation | None = None,
        sums: Sums | None = None,
        method: Method | None = None,
    ) -> None:
        self.arms = tuple(dict.fromkeys([NO_DRAFT, *arms]))
        self.situation = situation or Situation("any", "any", "any")
        self._sums = sums if sums is not None else LocalSums()
        self._method = method or Method()
        self._yield_keep = 0.5 ** (1 / self._method.yield_half_life)
        self._timing_keep = 0.5 ** (1 / self._method.timing_half_life)
        self._load_class = 1
        self._yield_key = "|".join(("yield", self.situation.target, self.situation.drafter, self.situation.sampling))

    def choose(self) -> TreePolicy:
        """The arm to play under the load that was last observed."""
        estimates, _, _ = self._estimates(self._load_class)
        return choose(self._method.policy, estimates)

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a round, whoever chose its tree."""
        self._load_class = load_class(outcome.num_sessions)
        lessons = self._method.teaching(outcome.verified, self.arms)
        self._sums.add(self._yield_key, yield_amounts(lessons), keep=self._yield_keep)
        timed = _timed(outcome)
        round_s, has_changed = self._times(self._load_class).believed(timed)
        keep = _KEEP_WHEN_CHANGED if has_changed else self._timing_keep
        self._sums.add(self._timing_key(self._load_class), timing_amounts(timed, round_s), keep=keep)

    def states(self, of_load_class: int) -> list[ArmState]:
        """Every arm as it stands under a load; best index first."""
        estimates, yields, times = self._estimates(of_load_class)
        indices = self._method.policy(estimates)
        states = [
            ArmState(
                known, brought, times.arm_seconds(known.arm, brought.num_nodes, brought.depth)[0] / times.plain_s, index
            )
            for known, brought, index in zip(estimates, yields, indices, strict=True)
        ]
        return sorted(states, key=lambda state: -state.index)

    def _estimates(self, of_load_class: int) -> tuple[list[Estimate], list[Yield], RoundTimes]:
        sums, times = self._sums.view(self._yield_key), self._times(of_load_class)
        yields = [arm_yield(arm, sums) for arm in self.arms]
        rewards = [self._method.pricing(brought, times) for brought in yields]
        estimates = [
            Estimate(arm, reward.value, reward.std_error, brought.num_rounds)
            for arm, reward, brought in zip(self.arms, rewards, yields, strict=True)
        ]
        return estimates, yields, times

    def _times(self, of_load_class: int) -> RoundTimes:
        own = self._sums.view(self._timing_key(of_load_class))
        if own.get("rounds", 0.0) >= _BORROWED_ROUNDS:
            return RoundTimes(own)
        for neighbour in sorted(range(_MAX_LOAD_CLASS + 1), key=lambda other: abs(other - of_load_class))[1:]:
            lent = self._sums.view(self._timing_key(neighbour))
            if lent.get("rounds", 0.0) > 0:
                share = min(1.0, (_BORROWED_ROUNDS - own.get("rounds", 0.0)) / lent["rounds"])
                names = own.keys() | lent.keys()
                return RoundTimes({name: own.get(name, 0.0) + share * lent.get(name, 0.0) for name in names})
        return RoundTimes(own)

    def _timing_key(self, of_load_class: int) -> str:
        return "|".join(("timing", self.situation.target, self.situation.drafter, str(of_load_class)))


def load_class(num_sessions: int) -> int:
    """Loads of one class are taken for alike: 1 session, 2 or 3, 4 to 7, and so on."""
    return min(_MAX_LOAD_CLASS, max(1, num_sessions).bit_length())


def _timed(outcome: RoundOutcome) -> TimedRound:
    verified = outcome.verified
    return TimedRound(
        policy=verified.policy,
        num_nodes=verified.tree.num_nodes,
        depth=verified.tree.depth,
        round_s=outcome.round_s,
        draft_s=outcome.draft_s,
        verify_s=outcome.verify_s,
        num_sessions=outcome.num_sessions,
    )
