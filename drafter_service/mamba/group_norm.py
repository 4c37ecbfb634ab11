"""RMS norms whose weight and length are somebody else's to carry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupNorm:
    """Brings each group of channels to unit length: x / sqrt(|x|² + width * eps).

    That is an RMS norm without its weight and sqrt(width), which the projection that follows carries.

    Attributes:
        num_groups: G, of equal width.
        group_width: channels of a group.
        floor: (1,), sqrt(width * eps).
    """

    num_groups: int
    group_width: int
    floor: Tensor

    @classmethod
    def of(cls, width: int, num_groups: int, eps: float, device: torch.device) -> GroupNorm:
        group_width = width // num_groups
        return cls(num_groups, group_width, torch.tensor([(eps * group_width) ** 0.5], device=device))

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, G * width) to the same."""
        if self.num_groups == 1:
            return rows / torch.hypot(torch.linalg.vector_norm(rows, dim=1, keepdim=True), self.floor)
        groups = rows.view(-1, self.num_groups, self.group_width)
        return (groups / torch.hypot(torch.linalg.vector_norm(groups, dim=2, keepdim=True), self.floor)).flatten(1)
