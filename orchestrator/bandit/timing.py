"""What a round takes, learned from rounds: plain + so much a node + so much a level. From additive sums. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.least_squares import solve_non_negative

_PRIOR_NODE = 0.02
_PRIOR_LEVEL = 0.08
"""A verified node and a drafted level before anything is known, in plain rounds. Hopeful: a tree that costs more is
found out by drawing it, one that is thought too dear is never drawn."""

_PRIOR_ROUNDS = 4.0
_PRIOR_NODES = 8.0
_PRIOR_LEVELS = 4.0
"""The prior weighs as much as so many rounds with trees of that size."""

_MODEL_ROUNDS = 4.0
"""An arm's own rounds speak for themselves once there are more than about that many; below, the model speaks."""

_PRIOR_SPREAD = 0.3
_MAX_SECONDS = 4.0
_MIN_SECONDS = 0.25
"""Of what was expected. A round that takes longer has stalled and is taken at that; one that is quicker was not lucky,
the world has changed."""

FEATURES = ("rounds", "nodes", "depth")


@dataclass(frozen=True)
class TimedRound:
    """One round, in seconds.

    Attributes:
        policy: what the drafter was asked for.
        num_nodes, depth: of the tree that came.
        draft_s, verify_s: its shares spent waiting for the draft and for the verdict.
        num_sessions: open at the verifier, this one among them.
    """

    policy: TreePolicy
    num_nodes: int
    depth: int
    round_s: float
    draft_s: float
    verify_s: float
    num_sessions: int


def timing_amounts(timed: TimedRound, round_s: float) -> dict[str, float]:
    """What a round adds to the sums.

    Args:
        round_s: what it is taken for, see `RoundTimes.believed`.
    """
    features = dict(zip(FEATURES, (1.0, timed.num_nodes, timed.depth), strict=True))
    amounts: dict[str, float] = {
        "nodes*nodes": timed.num_nodes**2,
        "nodes*depth": timed.num_nodes * timed.depth,
        "depth*depth": timed.depth**2,
        "seconds*seconds": round_s**2,
        "draft_seconds": timed.draft_s,
        "verify_seconds": timed.verify_s,
        "sessions": timed.num_sessions,
    }
    amounts.update(zip(_names(timed.policy), (1.0, round_s), strict=True))
    for name, value in features.items():
        amounts[name] = value
        amounts[f"{name}*seconds"] = value * round_s
    return amounts


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
        if self.num_rounds == 0:
            return timed.round_s, False
        expected_s = self.seconds(timed.num_nodes, timed.depth)
        return min(timed.round_s, _MAX_SECONDS * expected_s), timed.round_s < _MIN_SECONDS * expected_s

    def arm_seconds(self, arm: TreePolicy, num_nodes: float, depth: float) -> tuple[float, float]:
        """Expected of a round of an arm whose trees have such a size on average.

        Returns:
            Seconds, and their standard error as a share of them.
        """
        modelled_s = self.seconds(num_nodes, depth)
        own_rounds, own_s = (self.sums.get(name, 0.0) for name in _names(arm))
        seconds = (own_s + _MODEL_ROUNDS * modelled_s) / (own_rounds + _MODEL_ROUNDS)
        return seconds, self._spread / (own_rounds + min(_MODEL_ROUNDS, 1 + self.num_rounds)) ** 0.5

    @cached_property
    def _fitted(self) -> tuple[float, float, float]:
        """Seconds of a plain round, a node, a level: least squares, none negative."""
        of = self.sums.get
        if self.num_rounds == 0:
            return 1.0, _PRIOR_NODE, _PRIOR_LEVEL
        # The prior says node_s - _PRIOR_NODE * plain_s = 0 and the like, so it needs no unit of time.
        node_weight = _PRIOR_ROUNDS * _PRIOR_NODES**2
        level_weight = _PRIOR_ROUNDS * _PRIOR_LEVELS**2
        plain_row = self.num_rounds + node_weight * _PRIOR_NODE**2 + level_weight * _PRIOR_LEVEL**2
        plain_nodes = of("nodes", 0.0) - node_weight * _PRIOR_NODE
        plain_levels = of("depth", 0.0) - level_weight * _PRIOR_LEVEL
        nodes_levels = of("nodes*depth", 0.0)
        matrix = (
            (plain_row, plain_nodes, plain_levels),
            (plain_nodes, of("nodes*nodes", 0.0) + node_weight, nodes_levels),
            (plain_levels, nodes_levels, of("depth*depth", 0.0) + level_weight),
        )
        plain_s, node_s, level_s = solve_non_negative(matrix, self._seconds_by_feature)
        if plain_s <= 0:  # rounds of large trees alone, and odd ones: the prior's proportions
            units = self.num_rounds + _PRIOR_NODE * of("nodes", 0.0) + _PRIOR_LEVEL * of("depth", 0.0)
            plain_s = self._seconds_by_feature[0] / units
            node_s, level_s = _PRIOR_NODE * plain_s, _PRIOR_LEVEL * plain_s
        return plain_s, node_s, level_s

    @property
    def _seconds_by_feature(self) -> tuple[float, float, float]:
        rounds, nodes, depth = (self.sums.get(f"{name}*seconds", 0.0) for name in FEATURES)
        return rounds, nodes, depth

    @cached_property
    def _spread(self) -> float:
        """Standard deviation of a round about its expectation, as a share of the mean; the prior counts as a round."""
        if self.num_rounds == 0:
            return _PRIOR_SPREAD
        of, coefficients = self.sums.get, self._fitted
        products = (
            (self.num_rounds, of("nodes", 0.0), of("depth", 0.0)),
            (of("nodes", 0.0), of("nodes*nodes", 0.0), of("nodes*depth", 0.0)),
            (of("depth", 0.0), of("nodes*depth", 0.0), of("depth*depth", 0.0)),
        )
        residue = of("seconds*seconds", 0.0)
        for first, row, seconds in zip(coefficients, products, self._seconds_by_feature, strict=True):
            residue += first * (sum(map(lambda one, other: one * other, row, coefficients)) - 2 * seconds)
        mean_s = self._seconds_by_feature[0] / self.num_rounds
        squares = max(0.0, residue) / mean_s**2 + _PRIOR_SPREAD**2
        return float((squares / (self.num_rounds + 1)) ** 0.5)


@lru_cache
def _names(policy: TreePolicy) -> tuple[str, str]:
    return f"{policy}/rounds", f"{policy}/seconds"
