"""How a model feeds one token to each of several states: with copies of them, or where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

MAX_ROWS = 32
"""Rows of one step; wider batches gain nothing on a CPU and leave its cache."""


class Stepper(Protocol):
    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        """See `drafter_service.mamba.recurrent_model.RecurrentModel.step`; at most `MAX_ROWS` rows."""

    def feed(self, token_id: int, slot: int) -> None:
        """Feed one token to one state, in place."""
