"""Ways of answering the same prompts, compared: total tokens over total time, and how sure that is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NUM_DRAWS = 4000


@dataclass(frozen=True)
class Answer:
    """To one prompt, as the caller saw it.

    Attributes:
        seconds: from the request to the last token.
    """

    num_tokens: int
    seconds: float


@dataclass(frozen=True)
class Ratio:
    """Of two speeds, and where 90 % of it lie when the prompts are drawn anew."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def speed(answers: Sequence[Answer]) -> float:
    """Tokens a second."""
    return sum(answer.num_tokens for answer in answers) / sum(answer.seconds for answer in answers)


def ratio(ours: Sequence[Answer], theirs: Sequence[Answer]) -> Ratio:
    """Our speed over theirs, answer by answer to the same prompts; the interval is a bootstrap over prompts.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(_NUM_DRAWS, len(ours)))
    speeds = [
        np.array([answer.num_tokens for answer in answers])[drawn].sum(axis=1)
        / np.array([answer.seconds for answer in answers])[drawn].sum(axis=1)
        for answers in (ours, theirs)
    ]
    low, high = np.quantile(speeds[0] / speeds[1], [0.05, 0.95])
    return Ratio(speed(ours) / speed(theirs), float(low), float(high))
