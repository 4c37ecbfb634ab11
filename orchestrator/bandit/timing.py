"""What a round takes, learned from rounds. From additive sums. Pure.

A drafted round takes so much at all, so much a node and so much a level; a plain one its own time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import sqrt
from typing import NamedTuple

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.least_squares import Matrix, Vector, inverse, quadratic, solve_non_negative
from orchestrator.bandit.passes import PRIOR_ROW, NodePrice, VerifyPass

_PRIOR_LEVEL = 0.08
"""A drafted level before anything is known, in plain rounds. Hopeful: a tree that costs more is found out by drawing
it, one that is thought too dear is never drawn."""

_LEVEL_WEIGHT = 2.0
"""The level's weighs as much as an eighth of a round with four: little. Who has only drawn trees must doubt that he
knows what a plain round takes."""

_BASE_WEIGHT = 1.0
"""That a drafted round takes what a plain one takes, besides its nodes and levels, weighs as much as a round: to draft
at all has a price, which the first drafts tell."""

_MODEL_ROUNDS = 12.0
"""An arm's own rounds speak for themselves once there are more than about that many; below, the model speaks."""

_MODEL_PLAIN_ROUNDS = 1.0
"""The same for plain decoding, which the model of drafted rounds knows nothing of."""

_MODEL_ERROR = 0.1
"""How far times are from the straight line that the model is, as a share."""

_PRIOR_SPREAD = 0.3
_MIN_ROUNDS = 2.0
"""Below that many, rounds are taken for what they are."""

_MAX_FIRST_SECONDS = 8.0
_MAX_SECONDS = 2.0
_MIN_SECONDS = 0.25
"""Of what was expected. A round that takes longer has stalled and is taken at that, which is more for a policy that is
new; one that is quicker was not lucky, the world has changed."""

OWN_SECONDS, OWN_PASS_NODES = "/seconds", "/pass_nodes"

_NO_KNOWLEDGE: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class TimedRound:
    """One round, in seconds.

    Attributes:
        policy: what the drafter was asked for.
        num_nodes, depth: of the tree that came.
        verify_pass: that the tree was in.
        draft_s, verify_s: its shares spent waiting for the draft and for the verdict.
        num_sessions: open at the verifier, this one among them.
    """

    policy: TreePolicy
    num_nodes: int
    verify_pass: VerifyPass
    depth: int
    round_s: float
    draft_s: float
    verify_s: float
    num_sessions: int


def timing_amounts(timed: TimedRound, round_s: float) -> dict[str, float]:
    """What a round adds to the sums. Rounds of sessions that share passes see the same; together they count as one.

    Args:
        round_s: what it is taken for, see `RoundTimes.believed`.
    """
    weight = 1 / max(1, timed.num_sessions)
    seconds, nodes = weight * round_s, weight * timed.verify_pass.nodes_per_session
    own = _names(timed.policy)
    amounts = {
        "rounds": weight,
        "in_pass": weight * timed.verify_pass.num_sessions,
        "open": weight * max(1, timed.num_sessions),
        "seconds*seconds": seconds * round_s,
        "draft_seconds": weight * timed.draft_s,
        "verify_seconds": weight * timed.verify_s,
        own.rounds: weight,
        own.seconds: seconds,
        own.nodes: weight * timed.num_nodes,
        own.pass_nodes: nodes,
    }
    if timed.policy.depth > 0:
        depth = weight * timed.depth
        amounts |= {
            "drafted": weight,
            "nodes": nodes,
            "depth": depth,
            "nodes*nodes": nodes * timed.verify_pass.nodes_per_session,
            "nodes*depth": nodes * timed.depth,
            "depth*depth": depth * timed.depth,
            "drafted*seconds": seconds,
            "nodes*seconds": nodes * round_s,
            "depth*seconds": depth * round_s,
        }
    return amounts


def waiting_amounts(policy: TreePolicy, wait_s: float, num_sessions: int) -> dict[str, float]:
    """What waiting in vain for a draft adds to the sums: time on the policy's account, and no round.

    The round itself is a plain one. When the late tree is used after all, that round is the policy's.
    """
    return {_names(policy).seconds: wait_s / max(1, num_sessions)}


@dataclass(frozen=True)
class RoundTimes:
    """What is known of the times of rounds under one load; where nothing is, a plain round is the unit.

    Attributes:
        sums: as `timing_amounts` adds them.
        node_price: under this load.
    """

    sums: Mapping[str, float]
    node_price: NodePrice

    @property
    def num_rounds(self) -> float:
        return self.sums.get("rounds", 0.0)

    @property
    def num_plain_rounds(self) -> float:
        return self.sums.get(_PLAIN.rounds, 0.0)

    @property
    def total_s(self) -> float:
        """Of all rounds."""
        return self.sums.get("drafted*seconds", 0.0) + self.sums.get(_PLAIN.seconds, 0.0)

    def pace(self, times: RoundTimes) -> float:
        """How many times as long all rounds took as they would have under another load, all nodes left aside."""
        of, (base_s, _, level_s) = self.sums.get, times._fitted
        nodes_s = self.node_price.seconds * (of("nodes", 0.0) + of(_PLAIN.pass_nodes, 0.0))
        expected_s = base_s * of("drafted", 0.0) + level_s * of("depth", 0.0) + times.plain_s * self.num_plain_rounds
        return max(_MIN_SECONDS * self.total_s, self.total_s - nodes_s) / expected_s

    @cached_property
    def plain_s(self) -> float:
        """Expected of a round without a draft."""
        return self.arm_seconds(NO_DRAFT, 0, 0)[0]

    @property
    def level_share(self) -> float:
        """A drafted level's seconds over a verify pass's: lambda times gamma of arXiv:2506.01206 is that times the
        depth."""
        depth, verify_s = self.sums.get("depth", 0.0), self.sums.get("verify_seconds", 0.0)
        if depth <= 0 or verify_s <= 0:
            return _PRIOR_LEVEL
        return self.sums["draft_seconds"] / depth * self.sums["rounds"] / verify_s

    def drafted_s(self, num_nodes: float, depth: float) -> float:
        """Expected of a round with such a tree."""
        base_s, node_s, level_s = self._fitted
        return base_s + node_s * num_nodes + level_s * depth

    def believed(self, timed: TimedRound) -> tuple[float, bool]:
        """What a round is taken for, in seconds, and whether it was so quick that what was known must be old."""
        if self.num_rounds < _MIN_ROUNDS:
            return timed.round_s, False
        others_s = self._fitted[1] * timed.verify_pass.nodes_per_session
        expected_s = self.drafted_s(0, timed.depth) if timed.policy.depth > 0 else self.plain_s
        is_new = self.sums.get(_names(timed.policy).rounds, 0.0) < _MIN_ROUNDS
        max_s = (_MAX_FIRST_SECONDS if is_new else _MAX_SECONDS) * (expected_s + others_s)
        return min(timed.round_s, max_s), timed.round_s < _MIN_SECONDS * (expected_s + others_s)

    def arm_seconds(self, arm: TreePolicy, num_nodes: float, depth: float) -> tuple[float, float]:
        """Expected of a round of an arm whose trees have such a size on average, if all sessions drew such trees.

        A pass takes as long as all its nodes together make it. Under load, a session that drafts has nearly all of that
        paid by the others, who wait as long as it does; what pays for one alone may then slow all of them down. So the
        nodes that an arm's sessions drew beyond those of their passes are added at their price.

        Returns:
            Seconds, and their standard error as a share of them.
        """
        price = self.node_price
        modelled_s = max(self.drafted_s(num_nodes, depth), price.least_s + price.least_node_s * num_nodes)
        rounds, felt_s, nodes, pass_nodes = (self.sums.get(name, 0.0) for name in _names(arm))
        own_s = max(_MIN_SECONDS * felt_s, felt_s + self._fitted[1] * (nodes - pass_nodes))
        model_rounds = _MODEL_ROUNDS if arm.depth > 0 else _MODEL_PLAIN_ROUNDS
        seconds = (own_s + model_rounds * modelled_s) / (rounds + model_rounds)
        doubt = quadratic(self._doubt, (1.0, num_nodes, depth))
        variance_s2 = self._deviation_s**2 * (rounds + model_rounds**2 * doubt)
        variance_s2 += (model_rounds * _MODEL_ERROR * modelled_s) ** 2
        return seconds, sqrt(variance_s2) / (rounds + model_rounds) / seconds

    @cached_property
    def _matrix(self) -> Matrix:
        """Sums of the products of two features of a drafted round, the prior's rounds among them.

        The prior says base_s = a plain round's, node_s = node_price and level_s - _PRIOR_LEVEL * base_s = 0.
        """
        of = self.sums.get
        base_weight = _BASE_WEIGHT if self.num_plain_rounds > 0 else 0.0
        drafted = of("drafted", 0.0) + base_weight + _LEVEL_WEIGHT * _PRIOR_LEVEL**2
        nodes, nodes_depth = of("nodes", 0.0), of("nodes*depth", 0.0)
        depth = of("depth", 0.0) - _LEVEL_WEIGHT * _PRIOR_LEVEL
        return (
            (drafted, nodes, depth),
            (nodes, of("nodes*nodes", 0.0) + self.node_price.weight, nodes_depth),
            (depth, nodes_depth, of("depth*depth", 0.0) + _LEVEL_WEIGHT),
        )

    @cached_property
    def _seconds_by_feature(self) -> Vector:
        of, expected_s = self.sums.get, self.node_price.weight * self.node_price.seconds
        base_s = _BASE_WEIGHT * self._plain_mean_s
        return of("drafted*seconds", 0.0) + base_s, of("nodes*seconds", 0.0) + expected_s, of("depth*seconds", 0.0)

    @cached_property
    def _plain_mean_s(self) -> float:
        """Of plain rounds, had nobody else drafted; 0 where there was none."""
        rounds, felt_s, _, pass_nodes = (self.sums.get(name, 0.0) for name in _PLAIN)
        return max(_MIN_SECONDS * felt_s, felt_s - self.node_price.seconds * pass_nodes) / rounds if rounds > 0 else 0.0

    @cached_property
    def _doubt(self) -> Matrix:
        """Covariance of what is fitted, in variances of a round."""
        return inverse(self._matrix) if self.num_rounds > 0 else _NO_KNOWLEDGE

    @cached_property
    def _fitted(self) -> Vector:
        """Seconds of a drafted round at all, a node, a level: least squares, none negative."""
        if self.num_rounds == 0:
            return 1.0, PRIOR_ROW, _PRIOR_LEVEL
        by_feature = self._seconds_by_feature
        fitted = solve_non_negative(self._matrix, by_feature, self._doubt)
        if fitted[0] > 0:
            return fitted
        # Rounds of large trees alone, and odd ones: the prior's proportions.
        of = self.sums.get
        base_s = by_feature[0] / (PRIOR_ROW * of("nodes", 0.0) + _PRIOR_LEVEL * of("depth", 0.0) + self.num_rounds)
        return base_s, PRIOR_ROW * base_s, _PRIOR_LEVEL * base_s

    @cached_property
    def _deviation_s(self) -> float:
        """Of a round from what was expected of it, in seconds; the prior counts as a round."""
        if self.num_rounds == 0:
            return _PRIOR_SPREAD
        fitted, plain_rounds, plain_s = self._fitted, self.num_plain_rounds, self.sums.get(_PLAIN.seconds, 0.0)
        explained = 2 * sum(map(float.__mul__, fitted, self._seconds_by_feature)) - quadratic(self._matrix, fitted)
        explained += plain_s**2 / plain_rounds if plain_rounds > 0 else 0.0
        total = self.sums["seconds*seconds"] + _BASE_WEIGHT * self._plain_mean_s**2
        total += self.node_price.weight * self.node_price.seconds**2
        prior = (_PRIOR_SPREAD * self.total_s / self.num_rounds) ** 2
        return sqrt((max(0.0, total - explained) + prior) / (self.num_rounds + 1))


class _Names(NamedTuple):
    """Of a policy's own sums."""

    rounds: str
    seconds: str
    nodes: str
    pass_nodes: str


@lru_cache
def _names(policy: TreePolicy) -> _Names:
    return _Names(f"{policy}/rounds", f"{policy}{OWN_SECONDS}", f"{policy}/nodes", f"{policy}{OWN_PASS_NODES}")


_PLAIN = _names(NO_DRAFT)
