"""Mamba-2's layer.

Glossary: n rows of a batch, T tokens of a chunk, D d_inner, H heads of P = D / H channels, G groups of heads that
share B and C, S state size.

A head decays as one, so the decay is a number a head where Mamba-1's is one for every number of the state.

Source: "Transformers are SSMs", arXiv:2405.21060.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.mamba.convolution import Convolution
from drafter_service.mamba.group_norm import GroupNorm
from drafter_service.mamba.mamba2_buffers import Mamba2Buffers, Mamba2Shape
from drafter_service.mamba.projection import Projection
from drafter_service.mamba.recurrence import Projected, Recurrence, Selected
from drafter_service.mamba.slot_layout import SlotLayout, StepViews
from drafter_service.mamba.state_space_duality import HeadInputs, scan_heads


@dataclass(frozen=True)
class Mamba2Mixer:
    """See `drafter_service.mamba.mixer.Mixer`.

    The norm's weight and its sqrt(d_model) are folded into `project_in`, those of the gated norm into `project_out`,
    log2(e) into `log2_decay`.

    Attributes:
        project_in: d_model to D + C + H: the gate, the convolution's input, the time step.
        convolution: over C = D + 2 G S channels: the recurrence's input, B and C.
        time_step_bias: (H,).
        time_step_limits: smallest and largest time step; None where there is no limit.
        log2_decay: (H,), negative: a head decays by 2 ** (time step * log2_decay).
        skip: (D,).
        norm: of the gated output.
        project_out: D to d_model.
        shape: the sizes of all this.
        buffers: of a step, the same for all layers.
    """

    project_in: Projection
    convolution: Convolution
    time_step_bias: Tensor
    time_step_limits: tuple[float, float] | None
    log2_decay: Tensor
    skip: Tensor
    norm: GroupNorm
    project_out: Projection
    shape: Mamba2Shape
    buffers: Mamba2Buffers

    @property
    def layout(self) -> SlotLayout:
        """The state is (G, S, D / G): what is vectorised lies last, as in Mamba-1."""
        shape = self.shape
        return SlotLayout(
            self.convolution.window, shape.conv_width, (shape.num_groups, shape.state_size, shape.group_width)
        )

    def step(self, hidden: Tensor, normed: Tensor, views: StepViews) -> Tensor:
        space = self.buffers.of(normed.shape[0])
        self.project_in.into(space.projected, normed)
        conv_output = self.convolution.step(space.conv_row, views)
        torch.sigmoid(conv_output, out=space.convolved).mul_(conv_output)
        time_step = self._positive(space.time_step)
        space.decay_by_head.copy_(torch.exp2(time_step * self.log2_decay)[:, :, None])
        torch.mul(space.inputs_by_head, time_step[:, :, None], out=space.weighted_by_head)
        state = torch.mul(views.parent_state, space.decay, out=views.child_state)
        state.addcmul_(space.drive, space.weighted)
        torch.matmul(space.readout, state, out=space.read_by_group)
        return self._gated(hidden, space.inputs, space.gate, space.read)

    def prefill(self, hidden: Tensor, normed: Tensor, window: Tensor, state: Tensor) -> Tensor:
        projected = self.project(normed)
        selected = self.select(F.silu(self.convolution.over_time(projected.conv_input, window)), projected)
        inputs, time_step = selected.inputs, self._positive(selected.time_step)
        num_tokens, num_heads = time_step.shape
        weighted = inputs.view(num_tokens, num_heads, -1) * time_step[:, :, None]
        by_group = (num_tokens, self.shape.num_groups, self.shape.state_size)
        heads = HeadInputs(
            weighted.view(num_tokens, -1),
            time_step * self.log2_decay,
            selected.drive.view(by_group),
            selected.readout.view(by_group),
        )
        return self._gated(hidden, inputs, projected.gate, scan_heads(heads, state))

    @property
    def recurrence(self) -> Recurrence:
        shape = self.shape
        return Recurrence(
            self.log2_decay,
            self.time_step_bias,
            self.time_step_limits,
            self.skip,
            shape.num_heads,
            shape.num_groups,
            shape.state_size,
        )

    def project(self, normed: Tensor) -> Projected:
        return Projected(*torch.split(self.project_in(normed), self.shape.projected_sizes, dim=1))

    def select(self, convolved: Tensor, projected: Projected) -> Selected:
        if projected.time_step is None:
            raise RuntimeError("Mamba-2 projects its time step at once")
        inputs, drive, readout = torch.split(convolved, self.shape.convolved_sizes, dim=1)
        return Selected(inputs, projected.time_step, drive, readout)

    def leave(self, hidden: Tensor, gated: Tensor) -> Tensor:
        return self.project_out.add_to(hidden, self.norm(gated))

    def _positive(self, raw_time_step: Tensor) -> Tensor:
        """(n, H) to the same."""
        time_step = F.softplus(raw_time_step + self.time_step_bias)
        return time_step if self.time_step_limits is None else time_step.clamp_(*self.time_step_limits)

    def _gated(self, hidden: Tensor, inputs: Tensor, gate: Tensor, read: Tensor) -> Tensor:
        """The layer's end: skip connection, gate, norm, projection, residual."""
        return self.leave(hidden, read.addcmul_(inputs, self.skip).mul_(F.silu(gate)))
