"""Who may read how much of a text between two levels of everybody's trees. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def share_reading(num_waiting: Sequence[int], max_tokens: int) -> list[int]:
    """Divide a turn's tokens among the sessions that have text to read.

    Half goes to the one that has waited longest, so that none waits for ever; the rest to those with the least left, so
    that a short text does not wait behind a long one.

    Args:
        num_waiting: tokens that each session has to read, in the order in which they came.
        max_tokens: of all together, at least 1.

    Returns:
        How many tokens each may read; together at most `max_tokens`.
    """
    shares = [0] * len(num_waiting)
    eldest = next((index for index, number in enumerate(num_waiting) if number), None)
    if eldest is None:
        return shares
    shares[eldest] = min(num_waiting[eldest], (max_tokens + 1) // 2)
    left = max_tokens - shares[eldest]
    for index in sorted(range(len(num_waiting)), key=lambda index: num_waiting[index]):
        extra = min(num_waiting[index] - shares[index], left)
        shares[index] += extra
        left -= extra
    return shares
