"""Mamba-1's layer.

Glossary: n rows of a batch, T tokens of a chunk, D d_inner, S state size, R rank of the time step.

The recurrence keeps D last, so that all it does is vectorised over D.
`exp2` is used for `exp` because torch computes it about four times as fast on CPUs (measured, AVX-512).

Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv:2312.00752.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.mamba.convolution import Convolution
from drafter_service.mamba.mamba1_buffers import Mamba1Buffers
from drafter_service.mamba.projection import Projection
from drafter_service.mamba.recurrence import Projected, Recurrence, Selected
from drafter_service.mamba.selective_scan import SelectiveScan
from drafter_service.mamba.slot_layout import SlotLayout, StepViews


@dataclass(frozen=True)
class Mamba1Mixer:
    """See `drafter_service.mamba.mixer.Mixer`.

    The norm's weight and its sqrt(d_model) are folded into `project_in`, log2(e) into `log2_decay`.

    Attributes:
        project_in: d_model to 2 D: the convolution's input, then the gate.
        convolution: over D channels.
        project_selection: D to R + 2 S: the time step's low-rank form, B and C.
        time_step: R to D.
        log2_decay: (S, D), negative: the state decays by 2 ** (time step * log2_decay).
        skip: (D,).
        project_out: D to d_model.
        buffers: of a step, the same for all layers.
        scan: over time, the same for all layers.
    """

    project_in: Projection
    convolution: Convolution
    project_selection: Projection
    time_step: Projection
    log2_decay: Tensor
    skip: Tensor
    project_out: Projection
    buffers: Mamba1Buffers
    scan: SelectiveScan

    @property
    def layout(self) -> SlotLayout:
        return SlotLayout(self.convolution.window, self.convolution.width, tuple(self.log2_decay.shape))

    def step(self, hidden: Tensor, normed: Tensor, views: StepViews) -> Tensor:
        space = self.buffers.of(normed.shape[0])
        self.project_in.into(space.projected, normed)
        inputs = F.silu(self.convolution.step(space.conv_row, views))
        self.project_selection.into(space.selected, inputs)
        time_step = F.softplus(self.time_step(space.low_rank))
        state = torch.mul(time_step[:, None], self.log2_decay, out=views.child_state)
        torch.mul(time_step, inputs, out=space.weighted)
        state.exp2_().mul_(views.parent_state).addcmul_(space.drive, space.weighted_row)
        torch.bmm(space.readout, state, out=space.read_row)
        return self._gated(hidden, inputs, space.gate, space.read)

    def prefill(self, hidden: Tensor, normed: Tensor, window: Tensor, state: Tensor) -> Tensor:
        projected = self.project(normed)
        selected = self.select(F.silu(self.convolution.over_time(projected.conv_input, window)), projected)
        inputs, time_step = selected.inputs, F.softplus(selected.time_step)
        read = self.scan.scan(time_step, self.log2_decay, inputs, selected.drive, selected.readout, state)
        return self._gated(hidden, inputs, projected.gate, read)

    @property
    def recurrence(self) -> Recurrence:
        state_size, width = self.log2_decay.shape
        return Recurrence(self.log2_decay, None, None, self.skip, width, 1, state_size)

    def project(self, normed: Tensor) -> Projected:
        conv_input, gate = self.project_in(normed).chunk(2, dim=1)
        return Projected(gate, conv_input, None)

    def select(self, convolved: Tensor, _projected: Projected) -> Selected:
        chosen = self.project_selection(convolved)
        state_size = self.log2_decay.shape[0]
        sizes = [chosen.shape[1] - 2 * state_size, state_size, state_size]
        low_rank, drive, readout = torch.split(chosen, sizes, dim=1)
        return Selected(convolved, self.time_step(low_rank), drive, readout)

    def leave(self, hidden: Tensor, gated: Tensor) -> Tensor:
        return self.project_out.add_to(hidden, gated)

    def _gated(self, hidden: Tensor, inputs: Tensor, gate: Tensor, read: Tensor) -> Tensor:
        """The layer's end: skip connection, gate, projection, residual."""
        return self.leave(hidden, read.addcmul_(inputs, self.skip).mul_(F.silu(gate)))
