"""What verifying without a draft takes: the longest that a draft is worth waiting for. Pure."""

from __future__ import annotations

_WEIGHT = 0.1
"""Of each new round, once there are enough of them for a mean."""
_MAX_GROWTH = 4.0
"""One stalled round counts at most so many times what is usual; a lasting change is followed all the same."""


class PlainRoundClock:
    """A running mean of the seconds between asking a target's verifier and its reply, without a draft.

    It is the orchestrator's own view: network, queueing and batching included. A round with a draft takes at least as
    long as one without, so it bounds the mean from above where plain rounds are rare.

    Attributes:
        plain_round_s: None until a round was seen.
    """

    def __init__(self) -> None:
        self.plain_round_s: float | None = None
        self._num_rounds = 0

    def observe(self, elapsed_s: float, *, num_nodes: int) -> None:
        """A round that opened no session.

        Args:
            num_nodes: of the tree that it verified; 0 for a plain round.
        """
        if self.plain_round_s is None:
            self.plain_round_s = elapsed_s
        elif num_nodes == 0 or elapsed_s < self.plain_round_s:
            self._num_rounds += 1
            weight = max(_WEIGHT, 1 / self._num_rounds)
            bounded_s = min(elapsed_s, _MAX_GROWTH * self.plain_round_s)
            self.plain_round_s += weight * (bounded_s - self.plain_round_s)
