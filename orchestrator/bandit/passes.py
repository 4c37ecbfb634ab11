"""What a verifier's pass costs: so much at all and so much a row, learned from every pass. From additive sums. Pure.

A row is a row, whether a tree's node or another session's last token. So passes of many sessions tell what a node will
cost before anybody has drafted among so many, and passes with large trees what many sessions will.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

PRIOR_ROW = 0.02
"""A row before anything is known, as a share of what a pass costs at all. Hopeful: a tree that costs more is found out
by drawing it, one that is thought too dear is never drawn."""

_PRIOR_WEIGHT = 16.0
"""As much as so many passes of a row more or less. That is little."""

_KNOWN_WEIGHT = 4.0 * 8.0**2
"""What passes tell of a node weighs as much as four rounds with trees of eight."""

_MIN_PASSES = 2.0
_MAX_SECONDS = 2.0
"""Of what was expected, once there were a few."""


class NodePrice(NamedTuple):
    """What passes tell of rounds, before rounds with trees do.

    Attributes:
        seconds: that a node for every session of a pass adds to it.
        weight: of that, as much as so many rounds with trees of one node.
        least_s: a round when no session has a tree: the verifier has all their rows to compute.
        least_node_s: what a node for every session adds to that.
    """

    seconds: float
    weight: float
    least_s: float = 0.0
    least_node_s: float = 0.0


class VerifyPass(NamedTuple):
    """A forward pass of the target.

    Attributes:
        num_rows: tokens that were computed, of all its sessions.
    """

    num_sessions: int
    num_rows: int
    seconds: float

    @property
    def nodes_per_session(self) -> float:
        """What each had computed besides its last token, on average."""
        return max(0.0, self.num_rows / self.num_sessions - 1)


def pass_amounts(one: VerifyPass) -> dict[str, float]:
    """What a pass adds to the sums when one of its sessions tells of it; all of them together count it once."""
    weight = 1 / one.num_sessions
    rows = weight * one.num_rows
    return {
        "passes": weight,
        "rows": rows,
        "rows*rows": rows * one.num_rows,
        "seconds": weight * one.seconds,
        "rows*seconds": rows * one.seconds,
    }


@dataclass(frozen=True)
class PassCosts:
    """What is known of a target's passes.

    Attributes:
        sums: as `pass_amounts` adds them.
    """

    sums: Mapping[str, float]

    def believed(self, one: VerifyPass) -> VerifyPass:
        """What a pass is taken for: one that stalled says nothing of rows."""
        if self.sums.get("passes", 0.0) < _MIN_PASSES:
            return one
        base_s, row_s = self._fitted
        return one._replace(seconds=min(one.seconds, _MAX_SECONDS * (base_s + row_s * one.num_rows)))

    def node_price(self, num_in_pass: float, num_open: float) -> NodePrice:
        """By the number of sessions, on average in a pass, and altogether."""
        if not self.sums:
            return NodePrice(PRIOR_ROW * num_in_pass, _PRIOR_WEIGHT)
        spread = max(0.0, self.sums["rows*rows"] - self.sums["rows"] ** 2 / self.sums["passes"])
        known = spread / (spread + _PRIOR_WEIGHT)
        base_s, row_s = self._fitted
        return NodePrice(
            seconds=row_s * num_in_pass,
            weight=_PRIOR_WEIGHT + known * (_KNOWN_WEIGHT - _PRIOR_WEIGHT),
            least_s=base_s + row_s * num_open,
            least_node_s=row_s * num_open,
        )

    @property
    def _fitted(self) -> tuple[float, float]:
        """Seconds of a pass at all, and of a row: least squares, neither negative.

        The prior says row - PRIOR_ROW * base = 0, so it needs no unit of time.
        """
        of = self.sums.__getitem__
        passes = of("passes") + _PRIOR_WEIGHT * PRIOR_ROW**2
        rows = of("rows") - _PRIOR_WEIGHT * PRIOR_ROW
        squares = of("rows*rows") + _PRIOR_WEIGHT
        base = squares * of("seconds") - rows * of("rows*seconds")
        row = passes * of("rows*seconds") - rows * of("seconds")
        if base < 0:
            return 0.0, of("rows*seconds") / squares
        if row < 0:
            return of("seconds") / passes, 0.0
        determinant = passes * squares - rows * rows
        return base / determinant, row / determinant
