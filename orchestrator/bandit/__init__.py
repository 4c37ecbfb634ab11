"""The bandit over draft trees, see docs/bandit.md. All of it is pure but for the store of its sums."""

from orchestrator.bandit.nesting import VerifiedTree
from orchestrator.bandit.registry import BanditRegistry
from orchestrator.bandit.sums import LocalSums, Sums
from orchestrator.bandit.tree_bandit import Method, RoundOutcome, Situation, TreeBandit

__all__ = [
    "BanditRegistry",
    "LocalSums",
    "Method",
    "RoundOutcome",
    "Situation",
    "Sums",
    "TreeBandit",
    "VerifiedTree",
]
