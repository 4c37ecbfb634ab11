"""What a round takes, learned from rounds: plain + so much a node + so much a level. From additive sums. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import sqrt

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.least_squares import Matrix, Vector, inverse, quadratic, solve_non_negative

_PRIOR_NODE = 0.02
_PRIOR_LEVEL = 0.08
"""A verified node and a drafted level before anything is known, in plain rounds. Hopeful: a tree that costs more is
found out by drawing it, one that is thought too dear is never drawn."""

_PRIOR_ROUNDS = 0.25
_PRIOR_NODES = 8.0
_PRIOR_LEVELS = 4.0
"""The prior weighs as much as so many rounds with trees of that size: little. Under load a node may cost ten times
that, and who has only drawn trees must doubt that he knows what a plain round takes."""

_MODEL_ROUNDS = 12.0
"""An arm's own rounds speak for themselves once there are more than about that many; below, the model speaks."""

_MODEL_PLAIN_ROUNDS = 1.0
"""The same for plain decoding: to draft at all has a price that the model does not know of."""

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

_NO_KNOWLEDGE: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class TimedRound:
    """One round, in seconds.

    Attributes:
        policy: what the drafter was asked for.
        num_nodes, depth: of the tree that came.
        pass_nodes: of the trees in the same pass, on average, this one among them.
        draft_s, verify_s: its shares spent waiting for the draft and for the verdict.
        num_sessions: open at the verifier, this one among them.
    """

    policy: TreePolicy
    num_nodes: int
    pass_nodes: float
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
    nodes, depth = weight * timed.pass_nodes, weight * timed.depth
    rounds_name, seconds_name, surplus_name = _names(timed.policy)
    return {
        "rounds": weight,
        "nodes": nodes,
        "depth": depth,
        "nodes*nodes": nodes * timed.pass_nodes,
        "nodes*depth": nodes * timed.depth,
        "depth*depth": depth * timed.depth,
        "rounds*seconds": weight * round_s,
        "nodes*seconds": nodes * round_s,
        "depth*seconds": depth * round_s,
        "seconds*seconds": weight * round_s * round_s,
        "draft_seconds": weight * timed.draft_s,
        "verify_seconds": weight * timed.verify_s,
        rounds_name: weight,
        seconds_name: weight * round_s,
        surplus_name: weight * (timed.num_nodes - timed.pass_nodes),
    }


def waiting_amounts(policy: TreePolicy, wait_s: float, num_sessions: int) -> dict[str, float]:
    """What waiting in vain for a draft adds to the sums: time on the policy's account, and no round.

    The round itself is a plain one. When the late tree is used after all, that round is the policy's.
    """
    return {_names(policy)[1]: wait_s / max(1, num_sessions)}


@dataclass(frozen=True)
class RoundTimes:
    """What is known of the times of rounds under one load; where nothing is, a plain round is the unit.

    Attributes:
        sums: as `timing_amounts` adds them.
    """

    sums: Mapping[str, float]

    @property
    def num_rounds(self) -> float:
        return self.sums.get("rounds", 0.0)

    @property
    def num_plain_rounds(self) -> float:
        return self.sums.get(_names(NO_DRAFT)[0], 0.0)

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

    def seconds(self, num_nodes: float, depth: float) -> float:
        """Expected of a round with such a tree."""
        plain_s, node_s, level_s = self._fitted
        return plain_s + node_s * num_nodes + level_s * depth

    def believed(self, timed: TimedRound) -> tuple[float, bool]:
        """What a round is taken for, in seconds, and whether it was so quick that what was known must be old."""
        if self.num_rounds < _MIN_ROUNDS:
            return timed.round_s, False
        expected_s = self.seconds(timed.pass_nodes, timed.depth)
        is_new = self.sums.get(_names(timed.policy)[0], 0.0) < _MIN_ROUNDS
        max_s = (_MAX_FIRST_SECONDS if is_new else _MAX_SECONDS) * expected_s
        return min(timed.round_s, max_s), timed.round_s < _MIN_SECONDS * expected_s

    def arm_seconds(self, arm: TreePolicy, num_nodes: float, depth: float) -> tuple[float, float]:
        """Expected of a round of an arm whose trees have such a size on average, if all sessions drew such trees.

        A pass takes as long as all its nodes together make it. Under load, a session that drafts has nearly all of that
        paid by the others, who wait as long as it does; what pays for one alone may then slow all of them down. So the
        nodes that an arm's sessions drew beyond those of their passes are added at their price.

        Returns:
            Seconds, and their standard error as a share of them.
        """
        modelled_s = self.seconds(num_nodes, depth)
        rounds, felt_s, surplus = (self.sums.get(name, 0.0) for name in _names(arm))
        own_s = max(_MIN_SECONDS * felt_s, felt_s + self._fitted[1] * surplus)
        model_rounds = _MODEL_ROUNDS if arm.depth > 0 else _MODEL_PLAIN_ROUNDS
        seconds = (own_s + model_rounds * modelled_s) / (rounds + model_rounds)
        doubt = quadratic(self._doubt, (1.0, num_nodes, depth))
        variance_s2 = self._deviation_s**2 * (rounds + model_rounds**2 * doubt)
        variance_s2 += (model_rounds * _MODEL_ERROR * modelled_s) ** 2
        return seconds, sqrt(variance_s2) / (rounds + model_rounds) / seconds

    @cached_property
    def _matrix(self) -> Matrix:
        """Sums of the products of two features of a round, the prior's rounds among them.

        The prior says node_s - _PRIOR_NODE * plain_s = 0 and the like, so it needs no unit of time.
        """
        of = self.sums.get
        node_weight, level_weight = _PRIOR_ROUNDS * _PRIOR_NODES**2, _PRIOR_ROUNDS * _PRIOR_LEVELS**2
        rounds = of("rounds", 0.0) + node_weight * _PRIOR_NODE**2 + level_weight * _PRIOR_LEVEL**2
        nodes = of("nodes", 0.0) - node_weight * _PRIOR_NODE
        depth = of("depth", 0.0) - level_weight * _PRIOR_LEVEL
        nodes_depth = of("nodes*depth", 0.0)
        return (
            (rounds, nodes, depth),
            (nodes, of("nodes*nodes", 0.0) + node_weight, nodes_depth),
            (depth, nodes_depth, of("depth*depth", 0.0) + level_weight),
        )

    @property
    def _seconds_by_feature(self) -> Vector:
        of = self.sums.get
        return of("rounds*seconds", 0.0), of("nodes*seconds", 0.0), of("depth*seconds", 0.0)

    @cached_property
    def _doubt(self) -> Matrix:
        """Covariance of what is fitted, in variances of a round."""
        return inverse(self._matrix) if self.num_rounds > 0 else _NO_KNOWLEDGE

    @cached_property
    def _fitted(self) -> Vector:
        """Seconds of a plain round, a node, a level: least squares, none negative."""
        if self.num_rounds == 0:
            return 1.0, _PRIOR_NODE, _PRIOR_LEVEL
        by_feature = self._seconds_by_feature
        fitted = solve_non_negative(self._matrix, by_feature, self._doubt)
        if fitted[0] > 0:
            return fitted
        # Rounds of large trees alone, and odd ones: the prior's proportions.
        units = _PRIOR_NODE * self.sums["nodes"] + _PRIOR_LEVEL * self.sums["depth"] + self.num_rounds
        plain_s = by_feature[0] / units
        return plain_s, _PRIOR_NODE * plain_s, _PRIOR_LEVEL * plain_s

    @cached_property
    def _deviation_s(self) -> float:
        """Of a round from what was expected of it, in seconds; the prior counts as a round."""
        if self.num_rounds == 0:
            return _PRIOR_SPREAD
        by_feature, fitted = self._seconds_by_feature, self._fitted
        explained = 2 * sum(map(float.__mul__, fitted, by_feature)) - quadratic(self._matrix, fitted)
        prior = (_PRIOR_SPREAD * by_feature[0] / self.num_rounds) ** 2
        residue = max(0.0, self.sums["seconds*seconds"] - explained)
        return sqrt((residue + prior) / (self.num_rounds + 1))


def with_borrowed(own: Mapping[str, float], lent: Mapping[str, float], num_rounds: float) -> dict[str, float]:
    """Sums topped up to so many rounds with another load's, at the pace of the own rounds.

    A verifier with more to do is slower, but what a node or a level costs beside a plain round differs less.
    """
    own_rounds = own.get("rounds", 0.0)
    pace = 1.0
    if own_rounds > 0:
        alike_s = RoundTimes(lent).seconds(own["nodes"] / own_rounds, own["depth"] / own_rounds)
        pace = own["rounds*seconds"] / own_rounds / alike_s
    share = min(1.0, (num_rounds - own_rounds) / lent["rounds"])
    return {
        name: own.get(name, 0.0) + share * pace ** name.count("seconds") * lent.get(name, 0.0)
        for name in own.keys() | lent.keys()
    }


@lru_cache
def _names(policy: TreePolicy) -> tuple[str, str, str]:
    return f"{policy}/rounds", f"{policy}/seconds", f"{policy}/surplus"
