"""Where a step of Mamba-1 keeps what it computes: allocating and viewing anew costs as much as computing.

Glossary: n rows of a batch, D d_inner, S state size, R rank of the time step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepBuffers:
    """For n rows.

    Attributes:
        projected: (n, 2 D), of which `conv_row` is the first half, (n, 1, D), and `gate` the second, (n, D).
        selected: (n, R + 2 S), of which `low_rank` is (n, R), `drive` (n, S, 1), `readout` (n, 1, S).
        weighted: (n, D), and `weighted_row` the same as (n, 1, D).
        read: (n, D), and `read_row` the same as (n, 1, D).
    """

    projected: Tensor
    conv_row: Tensor
    gate: Tensor
    selected: Tensor
    low_rank: Tensor
    drive: Tensor
    readout: Tensor
    weighted: Tensor
    weighted_row: Tensor
    read: Tensor
    read_row: Tensor


class Mamba1Buffers:
    """Made once for each number of rows; every layer of a model overwrites what the one before has left."""

    def __init__(self, width: int, state_size: int, time_step_rank: int, device: torch.device) -> None:
        self._width = width
        self._state_size = state_size
        self._time_step_rank = time_step_rank
        self._device = device
        self._by_rows: dict[int, StepBuffers] = {}

    def of(self, num_rows: int) -> StepBuffers:
        buffers = self._by_rows.get(num_rows)
        if buffers is None:
            buffers = self._by_rows[num_rows] = self._make(num_rows)
        return buffers

    def _make(self, num_rows: int) -> StepBuffers:
        sizes = [self._time_step_rank, self._state_size, self._state_size]
        projected = self._empty(num_rows, 2 * self._width)
        conv_input, gate = projected.chunk(2, dim=1)
        selected = self._empty(num_rows, sum(sizes))
        low_rank, drive, readout = torch.split(selected, sizes, dim=1)
        weighted, read = self._empty(num_rows, self._width), self._empty(num_rows, self._width)
        return StepBuffers(
            projected=projected,
            conv_row=conv_input[:, None],
            gate=gate,
            selected=selected,
            low_rank=low_rank,
            drive=drive[:, :, None],
            readout=readout[:, None],
            weighted=weighted,
            weighted_row=weighted[:, None],
            read=read,
            read_row=read[:, None],
        )

    def _empty(self, num_rows: int, width: int) -> Tensor:
        return torch.empty(num_rows, width, device=self._device)
