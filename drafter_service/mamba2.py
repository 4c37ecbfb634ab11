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

from drafter_service.convolution import Convolution
from drafter_service.group_norm import GroupNorm
from drafter_service.projection import Projection
from drafter_service.slot_layout import SlotLayout, StepViews
from drafter_service.state_space_duality import HeadInputs, scan_heads


@dataclass(frozen=True)
class Mamba2Mixer:
    """See `drafter_service.mixer.Mixer`.

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
        state_size: S.
    """

    project_in: Projection
    convolution: Convolution
    time_step_bias: Tensor
    time_step_limits: tuple[float, float] | None
    log2_decay: Tensor
    skip: Tensor
    norm: GroupNorm
    project_out: Projection
    state_size: int

    @property
    def layout(self) -> SlotLayout:
        """The state is (G, S, D / G): what is vectorised lies last, as in Mamba-1."""
        state_shape = (self.norm.num_groups, self.state_size, self.norm.group_width)
        return SlotLayout(self.convolution.window, self.convolution.width, state_shape)

    def step(self, hidden: Tensor, normed: Tensor, views: StepViews) -> Tensor:
        gate, conv_input, time_step = self._projected(normed)
        inputs, drive, readout = self._selected(F.silu(self.convolution.step(conv_input[:, None], views)))
        decay = torch.exp2(time_step * self.log2_decay)
        weighted = inputs * self._by_channel(time_step)
        state = torch.mul(views.parent_state, self._grouped(self._by_channel(decay)), out=views.child_state)
        state.addcmul_(drive[:, :, :, None], self._grouped(weighted))
        read = torch.matmul(readout[:, :, None], state).flatten(1)
        return self._gated(hidden, inputs, gate, read)

    def prefill(self, hidden: Tensor, normed: Tensor, window: Tensor, state: Tensor) -> Tensor:
        gate, conv_input, time_step = self._projected(normed)
        inputs, drive, readout = self._selected(F.silu(self.convolution.over_time(conv_input, window)))
        weighted = inputs * self._by_channel(time_step)
        read = scan_heads(HeadInputs(weighted, time_step * self.log2_decay, drive, readout), state)
        return self._gated(hidden, inputs, gate, read)

    def _projected(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gate (n, D), the convolution's input (n, C), time step (n, H)."""
        sizes = [len(self.skip), self.convolution.width, len(self.log2_decay)]
        gate, conv_input, time_step = torch.split(self.project_in(normed), sizes, dim=1)
        time_step = F.softplus(time_step + self.time_step_bias)
        return gate, conv_input, time_step if self.time_step_limits is None else time_step.clamp(*self.time_step_limits)

    def _selected(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The recurrence's input (n, D), B and C (n, G, S)."""
        num_groups = self.norm.num_groups
        inputs, drive, readout = torch.split(
            convolved, [len(self.skip), num_groups * self.state_size, num_groups * self.state_size], dim=1
        )
        shape = (-1, num_groups, self.state_size)
        return inputs, drive.view(shape), readout.view(shape)

    def _by_channel(self, by_head: Tensor) -> Tensor:
        """(n, H) to (n, D): a head's number for each of its channels."""
        num_rows, num_heads = by_head.shape
        return by_head[:, :, None].expand(num_rows, num_heads, len(self.skip) // num_heads).reshape(num_rows, -1)

    def _grouped(self, by_channel: Tensor) -> Tensor:
        """(n, D) to (n, G, 1, D / G)."""
        return by_channel.view(-1, self.norm.num_groups, 1, self.norm.group_width)

    def _gated(self, hidden: Tensor, inputs: Tensor, gate: Tensor, read: Tensor) -> Tensor:
        """The layer's end: skip connection, gate, norm, projection, residual."""
        return self.project_out.add_to(hidden, self.norm(read.addcmul_(inputs, self.skip).mul_(F.silu(gate))))
