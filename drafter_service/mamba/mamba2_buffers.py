"""Where a step of Mamba-2 keeps what it computes, see `drafter_service.mamba.mamba1_buffers`.

Glossary: n rows of a batch, D d_inner, C channels of the convolution, H heads of P channels, G groups, S state size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mamba2Shape:
    """The sizes of one layer."""

    width: int
    num_heads: int
    num_groups: int
    state_size: int

    @property
    def conv_width(self) -> int:
        return self.width + 2 * self.num_groups * self.state_size

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads

    @property
    def group_width(self) -> int:
        return self.width // self.num_groups

    @property
    def projected_sizes(self) -> list[int]:
        """Gate, the convolution's input, time step."""
        return [self.width, self.conv_width, self.num_heads]

    @property
    def convolved_sizes(self) -> list[int]:
        """The recurrence's input, B, C."""
        return [self.width, self.num_groups * self.state_size, self.num_groups * self.state_size]


@dataclass(frozen=True)
class StepBuffers:
    """For n rows.

    Attributes:
        projected: (n, D + C + H), of which `gate` is (n, D), `conv_row` (n, 1, C), `time_step` (n, H).
        convolved: (n, C), of which `inputs` is (n, D), by head (n, H, P); `drive` (n, G, S, 1), `readout` (n, G, 1, S).
        weighted_by_head: (n, H, P), the same memory as `weighted`, (n, G, 1, D / G).
        decay_by_head: (n, H, P), the same memory as `decay`, (n, G, 1, D / G).
        read: (n, D), the same memory as `read_by_group`, (n, G, 1, D / G).
    """

    projected: Tensor
    gate: Tensor
    conv_row: Tensor
    time_step: Tensor
    convolved: Tensor
    inputs: Tensor
    inputs_by_head: Tensor
    drive: Tensor
    readout: Tensor
    weighted_by_head: Tensor
    weighted: Tensor
    decay_by_head: Tensor
    decay: Tensor
    read: Tensor
    read_by_group: Tensor


class Mamba2Buffers:
    """Made once for each number of rows; every layer of a model overwrites what the one before has left."""

    def __init__(self, shape: Mamba2Shape, device: torch.device) -> None:
        self.shape = shape
        self._device = device
        self._by_rows: dict[int, StepBuffers] = {}

    def of(self, num_rows: int) -> StepBuffers:
        buffers = self._by_rows.get(num_rows)
        if buffers is None:
            buffers = self._by_rows[num_rows] = self._make(num_rows)
        return buffers

    def _make(self, num_rows: int) -> StepBuffers:
        shape = self.shape
        by_head = (num_rows, shape.num_heads, shape.head_width)
        by_group = (num_rows, shape.num_groups, 1, shape.group_width)
        projected = self._empty(num_rows, sum(shape.projected_sizes))
        gate, conv_input, time_step = torch.split(projected, shape.projected_sizes, dim=1)
        convolved = self._empty(num_rows, shape.conv_width)
        inputs, drive, readout = torch.split(convolved, shape.convolved_sizes, dim=1)
        weighted, decay, read = (self._empty(num_rows, shape.width) for _ in range(3))
        return StepBuffers(
            projected=projected,
            gate=gate,
            conv_row=conv_input[:, None],
            time_step=time_step,
            convolved=convolved,
            inputs=inputs,
            inputs_by_head=inputs.view(by_head),
            drive=drive.view(num_rows, shape.num_groups, shape.state_size, 1),
            readout=readout.view(num_rows, shape.num_groups, 1, shape.state_size),
            weighted_by_head=weighted.view(by_head),
            weighted=weighted.view(by_group),
            decay_by_head=decay.view(by_head),
            decay=decay.view(by_group),
            read=read,
            read_by_group=read.view(by_group),
        )

    def _empty(self, num_rows: int, width: int) -> Tensor:
        return torch.empty(num_rows, width, device=self._device)
