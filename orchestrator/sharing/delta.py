"""Changes to a group of sums: fading, then growing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Delta:
    """Any number of changes in one: every sum is multiplied by `keep`, then the amounts are added.

    Attributes:
        keep: product of the changes' own; in [0, 1], 0 only by underflow.
        amounts: what each change added, faded by all that came after it.
    """

    keep: float = 1.0
    amounts: dict[str, float] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return self.keep == 1.0 and not self.amounts

    def then(self, keep: float, amounts: Mapping[str, float]) -> None:
        """Let another change follow."""
        self.keep *= keep
        change(self.amounts, keep, amounts)

    def apply_to(self, sums: dict[str, float]) -> None:
        """Change the sums in place."""
        change(sums, self.keep, self.amounts)


def change(sums: dict[str, float], keep: float, amounts: Mapping[str, float]) -> None:
    """Multiply every sum by `keep`, then add the amounts, to zero where a sum is new; in place."""
    if keep != 1.0:
        for name in sums:
            sums[name] *= keep
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0.0) + amount
