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
from orchestrator.bandit.borrowing import with_borrowed
from orchestrator.bandit.nesting import VerifiedTree, nested_lessons
from orchestrator.bandit.passes import PassCosts, VerifyPass, pass_amounts
from orchestrator.bandit.policies import Estimate, Policy, UcbTuned, choose
from orchestrator.bandit.rewards import Pricing, measured_reward
from orchestrator.bandit.sums import LocalSums, Sums
from orchestrator.bandit.timing import RoundTimes, TimedRound, timing_amounts, waiting_amounts
from orchestrator.bandit.yields import Yield, arm_yields, arms_below, yield_amounts

_MAX_LOAD_CLASS = 12
_LOAD_CLASSES = range(1, _MAX_LOAD_CLASS + 1)
_BORROWED_ROUNDS = 32.0
"""A load class that is new starts as if it had seen so many rounds, with the proportions of its nearest neighbour's."""

_STINT_ROUNDS = 2
"""Sessions that run side by side play the same arm, about so many rounds each, before another is chosen. They make each
other wait, for the pass and for every shared core. Where some draft and some do not, nobody's round shows what it costs
if all do either; and who tries something odd alone has the others pay for it and finds it cheap."""

_MIN_PLAIN_ROUNDS = 2.0
_UNMEASURED = 10.0
"""All else is measured in plain rounds: while fewer are remembered, this error makes curiosity play them."""

_CHANGED_HALF_LIFE = 1.0
"""Of times, in rounds of every session, while rounds are so quick that what is known of them must be old."""

_PLAIN_AGEING = 0.05
"""A plain round tells nothing of trees, and ages what is known of them far less than a drafted one. Not at all would be
wrong: who has stopped drafting would hear late, if ever, that it pays again."""


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
    """What a round brought and took.

    Attributes:
        num_sessions: open at the verifier.
        verify_pass: of the verifier, that the tree was in; None where it had one to itself.
    """

    verified: VerifiedTree
    round_s: float
    draft_s: float
    verify_s: float
    num_sessions: int = 1
    verify_pass: VerifyPass | None = None


@dataclass(frozen=True)
class Method:
    """How a bandit decides and how long it remembers.

    Attributes:
        yield_half_life: until what is known of acceptance has half its weight, in drafted rounds of one session: the
            more sessions, the sooner they have passed; plain rounds count little. Infinite for ever.
        timing_half_life: the same of times, in rounds of any kind.
    """

    policy: Policy = field(default_factory=lambda: UcbTuned(0.35))
    pricing: Pricing = measured_reward
    yield_half_life: float = 1000.0
    timing_half_life: float = 300.0


@dataclass(frozen=True)
class ArmState:
    """An arm as it stands under one load, for people to look at.

    Attributes:
        index: what the policy ranks it by.
        round_s: what a round of it takes, in seconds.
    """

    estimate: Estimate
    brought: Yield
    round_s: float
    index: float


@dataclass(frozen=True)
class LoadState:
    """What is known under one load.

    Attributes:
        num_rounds: timed, faded.
        plain_round_s: expected of a round without a draft, in seconds.
        arms: best index first.
    """

    load_class: int
    num_rounds: float
    plain_round_s: float
    arms: list[ArmState]


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
        self._below = arms_below(arms)
        self.arms = (NO_DRAFT, *self._below)
        self.situation = situation or Situation("any", "any", "any")
        self._sums = sums if sums is not None else LocalSums()
        self._method = method or Method()
        self._load_class = 1
        self._arm: TreePolicy = NO_DRAFT
        self._rounds_left = 0
        self._num_under_way = 0
        self._passes_key = "|".join(("passes", self.situation.target))
        self._yield_key = "|".join(("yield", self.situation.target, self.situation.drafter, self.situation.sampling))

    def choose(self) -> TreePolicy:
        """The arm to play under the load that was last observed, or more if more has begun here since.

        The round is under way until `release` is called.
        """
        self._num_under_way += 1
        if self._rounds_left > 0:
            self._rounds_left -= 1
        else:
            estimates, _, _ = self._estimates(max(self._load_class, load_class(self._num_under_way)))
            self._arm = choose(self._method.policy, estimates)
            self._rounds_left = _STINT_ROUNDS * self._num_under_way - 1 if self._num_under_way > 1 else 0
        return self._arm

    def release(self) -> None:
        """A round whose arm was chosen here is over, whatever came of it."""
        self._num_under_way -= 1

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a round, whoever chose its tree."""
        self._load_class = load_class(outcome.num_sessions)
        num_sessions = max(1, outcome.num_sessions)
        lessons = nested_lessons(outcome.verified, self.arms)
        ageing = _PLAIN_AGEING if outcome.verified.policy.depth == 0 else 1.0
        keep = 0.5 ** (ageing / (self._method.yield_half_life * num_sessions))
        self._sums.add(self._yield_key, yield_amounts(lessons, self._below), keep=keep)
        timed = _timed(outcome)
        round_s, has_changed = self._own_times(self._load_class).believed(timed)
        half_life = _CHANGED_HALF_LIFE if has_changed else self._method.timing_half_life
        keep = 0.5 ** (1 / (half_life * num_sessions))
        self._sums.add(self._timing_key(self._load_class), timing_amounts(timed, round_s), keep=keep)
        seen = PassCosts(self._sums.view(self._passes_key)).believed(timed.verify_pass)
        self._sums.add(self._passes_key, pass_amounts(seen), keep=keep)

    def charge(self, policy: TreePolicy, wait_s: float, num_sessions: int) -> None:
        """A round waited in vain for such a draft, and went on without."""
        key = self._timing_key(load_class(num_sessions))
        self._sums.add(key, waiting_amounts(policy, wait_s, num_sessions))

    @property
    def load_class(self) -> int:
        """That of the round that was last observed."""
        return self._load_class

    @property
    def known_loads(self) -> list[int]:
        """The classes that rounds have been timed under; none while no round has told anything of the arms."""
        if not self._sums.view(self._yield_key):
            return []
        return [known for known in _LOAD_CLASSES if self._sums.view(self._timing_key(known))]

    def recall(self) -> None:
        """Look up everything once, so that a store that has to fetch it does."""
        for key in (self._yield_key, self._passes_key, *map(self._timing_key, _LOAD_CLASSES)):
            self._sums.view(key)

    def state(self, of_load_class: int) -> LoadState:
        """Everything as it stands under a load."""
        estimates, yields, times = self._estimates(of_load_class)
        indices = self._method.policy(estimates)
        arms = [
            ArmState(known, brought, times.arm_seconds(known.arm, brought.num_nodes, brought.depth)[0], index)
            for known, brought, index in zip(estimates, yields, indices, strict=True)
        ]
        return LoadState(
            of_load_class, times.num_rounds, times.plain_s, sorted(arms, key=lambda arm: arm.index, reverse=True)
        )

    def _estimates(self, of_load_class: int) -> tuple[list[Estimate], list[Yield], RoundTimes]:
        sums, times = self._sums.view(self._yield_key), self._times(of_load_class)
        yields = list(arm_yields(self._below, sums).values())
        rewards = [self._method.pricing(brought, times) for brought in yields]
        estimates = [
            Estimate(arm, reward.value, reward.std_error, brought.num_rounds)
            for arm, reward, brought in zip(self.arms, rewards, yields, strict=True)
        ]
        if times.num_plain_rounds < _MIN_PLAIN_ROUNDS:
            estimates[0] = estimates[0]._replace(std_error=_UNMEASURED)
        return estimates, yields, times

    def _times(self, of_load_class: int) -> RoundTimes:
        own = self._own_times(of_load_class)
        if own.num_rounds >= _BORROWED_ROUNDS:
            return own
        for neighbour in sorted(_LOAD_CLASSES, key=lambda other: abs(other - of_load_class))[1:]:
            lent = self._own_times(neighbour)
            if lent.num_rounds > 0:
                return with_borrowed(own, lent, _BORROWED_ROUNDS)
        return own

    def _own_times(self, of_load_class: int) -> RoundTimes:
        sums = self._sums.view(self._timing_key(of_load_class))
        # Before that is known: the least of the class, for there may be more, and some of them in another pass.
        expected, rounds = 2 ** (of_load_class - 1), sums.get("rounds", 0.0) + 1
        num_in_pass = (sums.get("in_pass", 0.0) + expected) / rounds
        num_open = (sums.get("open", 0.0) + expected) / rounds
        return RoundTimes(sums, PassCosts(self._sums.view(self._passes_key)).node_price(num_in_pass, num_open))

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
        verify_pass=outcome.verify_pass or VerifyPass(1, verified.tree.num_nodes + 1, outcome.verify_s),
    )
