"""A bandit for each situation, all over the same sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.bandit.sums import Sums
from orchestrator.bandit.tree_bandit import Method, Situation, TreeBandit


class BanditRegistry:
    """One bandit for each situation in which another tree may pay."""

    def __init__(self, arms: Sequence[TreePolicy], sums: Sums, method: Method) -> None:
        self._arms = arms
        self._sums = sums
        self._method = method
        self._bandits: dict[tuple[Situation, int], TreeBandit] = {}

    @property
    def bandits(self) -> list[TreeBandit]:
        """All that were ever asked for, by situation."""
        return [self._bandits[key] for key in sorted(self._bandits, key=lambda key: (astuple(key[0]), key[1]))]

    def bandit(self, situation: Situation, max_tree_nodes: int, *, only_fixed: bool = False) -> TreeBandit:
        """The situation's bandit, with the arms that are not too large for its services.

        Args:
            only_fixed: leave best-first trees out, which the rejection rule cannot have; the situation tells that rule.
        """
        key = (situation, max_tree_nodes)
        if key not in self._bandits:
            arms = [
                arm
                for arm in self._arms
                if arm.num_nodes <= max_tree_nodes and not (only_fixed and isinstance(arm, BestFirst))
            ]
            self._bandits[key] = TreeBandit(arms, situation=situation, sums=self._sums, method=self._method)
        return self._bandits[key]
