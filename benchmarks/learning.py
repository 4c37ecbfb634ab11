"""When a player has learned: from what it chose, round by round, and what every arm is truly worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

WITHIN = 0.95
"""Of the best arm's speed: as good as that counts as learned."""

WINDOW = 50
"""Rounds over which that must hold on average."""


def rounds_to_learn(relative: Sequence[float]) -> int:
    """Rounds before the first window in which what was chosen is within five per cent of the best arm.

    Args:
        relative: seconds a token of the arm chosen in each round, the best arm's being 1.

    Returns:
        All of them where there is no such window.
    """
    for begin in range(len(relative) - WINDOW):
        if mean(relative[begin : begin + WINDOW]) <= 1 / WITHIN:
            return begin
    return len(relative)


def share_within(relative: Sequence[float]) -> float:
    """The share of the first window's rounds whose arm is within five per cent of the best."""
    return mean(seconds <= 1 / WITHIN for seconds in relative[:WINDOW])
