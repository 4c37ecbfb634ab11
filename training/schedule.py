"""The warmup-stable-decay schedule of the learning rate, counted in tokens."""

from dataclasses import dataclass, replace

DECAY_SHARE = 0.7
WARMUP_TOKENS = 100_000


@dataclass(frozen=True)
class Schedule:
    """A factor on every learning rate: up, flat, then straight down to zero at the end of the budget.

    Source: warmup-stable-decay, arXiv:2404.06395; linear decay to zero, arXiv:2405.18392.
    """

    total_tokens: int
    """The token budget; the factor is zero there."""
    decay_start_tokens: int
    """Where the flat part ends."""
    warmup_tokens: int = WARMUP_TOKENS
    """Where the flat part begins."""

    @classmethod
    def over(cls, total_tokens: int) -> "Schedule":
        """The schedule of a run that starts with this budget."""
        return cls(total_tokens, round(total_tokens * (1 - DECAY_SHARE)))

    def with_budget(self, total_tokens: int, seen_tokens: int) -> "Schedule":
        """The schedule after a change of budget in mid-run; the factor goes on from where it is.

        On the flat part, a smaller budget whose own flat part is already over decays from now on. During the decay,
        the line is tilted to reach zero at the new end.
        """
        if total_tokens == self.total_tokens:
            return self
        factor = self._decay(seen_tokens)
        if factor < 1.0:
            start = total_tokens - (total_tokens - seen_tokens) / factor if factor > 0 else seen_tokens
        else:
            start = max(Schedule.over(total_tokens).decay_start_tokens, seen_tokens)
        return replace(self, total_tokens=total_tokens, decay_start_tokens=round(start))

    def factor(self, seen_tokens: int) -> float:
        """The factor, in [0, 1], for the step that follows `seen_tokens` tokens."""
        return min((seen_tokens + 1) / self.warmup_tokens, self._decay(seen_tokens), 1.0)

    def _decay(self, seen_tokens: int) -> float:
        fall = (self.total_tokens - seen_tokens) / max(1, self.total_tokens - self.decay_start_tokens)
        return max(0.0, min(1.0, fall))
