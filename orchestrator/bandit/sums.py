"""Where evidence is kept: named groups of additive sums that fade.

Sums of several replicas can be added up, in any order; that is what makes them shareable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Sums(Protocol):
    """What the bandit needs of a store. Both calls are instant: nothing waits for a network here."""

    def view(self, key: str) -> Mapping[str, float]:
        """The sums of a group as they are known here, for reading only; empty for a group that nobody has added to."""

    def add(self, key: str, amounts: Mapping[str, float], *, keep: float = 1.0) -> None:
        """Let a group fade, then grow.

        Every sum of the group, named in `amounts` or not, is multiplied by `keep`; then the amounts are added, to zero
        where a sum is new.

        Args:
            amounts: finite, by short names.
            keep: in (0, 1].
        """


class LocalSums:
    """The sums of this process alone."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, float]] = {}

    def view(self, key: str) -> Mapping[str, float]:
        return self._groups.get(key, {})

    def add(self, key: str, amounts: Mapping[str, float], *, keep: float = 1.0) -> None:
        group = self._groups.setdefault(key, {})
        if keep != 1.0:
            for name in group:
                group[name] *= keep
        for name, amount in amounts.items():
            group[name] = group.get(name, 0.0) + amount
