"""Whether a pass waits a moment for sessions that are about to be back. Pure.

Whoever is asked while a pass runs shares the next one. So sessions fall into groups that take turns and never meet: of
two, each comes back while the other's pass runs, and both wait for two passes a round, although one pass for both would
hardly take longer than either. A moment's patience brings them together for good. This is about sessions that draft
nothing: groups that draft and take turns keep drafter and verifier busy at the same time.

What it gains: of a pass, the part that it costs however little is in it (`PassCost`), once for all who share. What it
costs: the device stands still. So

- all must be back before it has stood still for as long as that gain, from the end of the last pass on; and since a
  larger group takes longer to be back, a pass that answered only some of them stands for so much of the gain only;
- those who are here must not lose more by waiting than the others gain;
- sessions that usually take longer, or are overdue, are not waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

CAUTION = 0.75
"""Of the expected gain, so much may be spent: what is spent is certain, and some come later or not at all."""


class Returns:
    """When a session is asked again after an answer: mean and mean deviation, as TCP keeps them of round trips.

    Source: RFC 6298.

    Attributes:
        answered_at: in seconds; None while it has not been answered, or is asked again.
        mean_s: None before its first return.
    """

    def __init__(self) -> None:
        self.answered_at: float | None = None
        self.mean_s: float | None = None
        self.deviation_s = 0.0

    def answer(self, now: float) -> None:
        self.answered_at = now

    def come(self, now: float) -> None:
        """It is asked; the first time, nobody has waited for it."""
        if self.answered_at is None:
            return
        gap_s, self.answered_at = now - self.answered_at, None
        if self.mean_s is None:
            self.mean_s, self.deviation_s = gap_s, gap_s / 2
        else:
            self.deviation_s += (abs(gap_s - self.mean_s) - self.deviation_s) / 4
            self.mean_s += (gap_s - self.mean_s) / 8

    def is_expected(self, now: float, within_s: float) -> bool:
        """Whether it will be back, usually so soon after its answer; not where that is not known, or it is overdue."""
        if self.answered_at is None or self.mean_s is None:
            return False
        return self.mean_s + self.deviation_s <= within_s and now < self.latest_at

    @property
    def likely_at(self) -> float:
        """When it will be back, more likely than not."""
        return (self.answered_at or 0.0) + (self.mean_s or 0.0) + self.deviation_s

    @property
    def latest_at(self) -> float:
        """From when on it is not waited for any more."""
        return self.likely_at + self.deviation_s


class PassCost:
    """What passes cost: a line through those of late, seconds over tokens."""

    _KEEP = 0.99
    _MAX_SURPRISE = 2.0
    """A pass counts as at most so many times what was expected: the machine was busy with something else."""

    def __init__(self) -> None:
        self._num = self._tokens = self._seconds = self._tokens_squared = self._products = 0.0

    def add(self, num_tokens: int, seconds: float) -> None:
        if self._num > 1:
            fixed_s, per_token_s = self._line()
            seconds = min(seconds, self._MAX_SURPRISE * (fixed_s + per_token_s * num_tokens))
        self._num = self._KEEP * self._num + 1
        self._tokens = self._KEEP * self._tokens + num_tokens
        self._seconds = self._KEEP * self._seconds + seconds
        self._tokens_squared = self._KEEP * self._tokens_squared + num_tokens**2
        self._products = self._KEEP * self._products + num_tokens * seconds

    @property
    def fixed_s(self) -> float:
        """What a pass costs however few tokens are in it; while all had the same number, what that costs."""
        return self._line()[0] if self._num else 0.0

    def _line(self) -> tuple[float, float]:
        mean_tokens, mean_s = self._tokens / self._num, self._seconds / self._num
        variance = self._tokens_squared / self._num - mean_tokens**2
        if variance < 1e-6 * mean_tokens**2:
            return mean_s, 0.0
        per_token_s = max(0.0, (self._products / self._num - mean_tokens * mean_s) / variance)
        per_token_s = min(per_token_s, mean_s / mean_tokens)
        return mean_s - per_token_s * mean_tokens, per_token_s


def hold_s(
    now: float, *, idle_since: float, num_here: int, others: Sequence[Returns], num_answered: int, fixed_s: float
) -> float:
    """How long the next pass should be held, in seconds; 0 where it should begin.

    Args:
        now: as all times, in seconds of one clock.
        idle_since: when the last pass ended.
        num_here: sessions that wait for this pass, at least one.
        others: the other sessions that are open.
        num_answered: by the last pass.
        fixed_s: of a pass's time.
    """
    gain_s = CAUTION * fixed_s
    expected = [other for other in others if other.is_expected(now, gain_s)]
    if not expected:
        return 0.0
    share_of_group = min(1.0, num_answered / (num_here + len(expected)))
    patient_until = min(idle_since + gain_s * share_of_group, now + gain_s * len(expected) / num_here)
    if max(now, *(other.likely_at for other in expected)) > patient_until:
        return 0.0
    return min(patient_until, max(other.latest_at for other in expected)) - now
