"""Whose pages are taken back when the KV cache is full. Pure.

A session that loses its pages keeps its tokens: it is *suspended*, and computes what nobody else has kept once it
has room again. Those admitted first go first: the oldest session can always take what it needs, so somebody always
finishes, and whoever waits comes nearer to being the oldest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Holding:
    """A session that could be suspended.

    Attributes:
        pages: that it holds.
        is_younger: whether it was admitted after the session that asks.
        idle_s: how long nobody has asked anything of it; 0 while a request is in progress.
    """

    pages: Sequence[int]
    is_younger: bool
    idle_s: float


def choose_suspended(
    num_missing: int, holdings: Sequence[Holding], num_holders: Callable[[int], int], *, max_idle_s: float
) -> list[int] | None:
    """Whom to suspend so that `num_missing` pages become free.

    First those idle for more than `max_idle_s`, longest first; then the younger ones, youngest first.

    Args:
        holdings: of all other sessions, oldest first.
        num_holders: of a page.

    Returns:
        Indices into `holdings`, no more than are needed; None where even all of them would not do.
    """
    long_idle = [index for index, holding in enumerate(holdings) if holding.idle_s > max_idle_s]
    long_idle.sort(key=lambda index: -holdings[index].idle_s)
    younger = [index for index in reversed(range(len(holdings))) if holdings[index].is_younger]
    chosen: list[int] = []
    released: Counter[int] = Counter()
    num_freed = 0
    for index in dict.fromkeys([*long_idle, *younger]):
        if num_freed >= num_missing:
            break
        chosen.append(index)
        released.update(holdings[index].pages)
        num_freed = sum(count == num_holders(page) for page, count in released.items())
    return chosen if num_freed >= num_missing else None
