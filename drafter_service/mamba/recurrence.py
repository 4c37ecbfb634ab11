"""Mamba's recurrence, 1 and 2 alike: what is fixed of it, and what each token brings.

    time step   = softplus(raw time step + bias), within limits, a number for each head
    state       = 2 ** (time step * log2_decay) * state + drive x (time step * inputs)
    gated       = (readout * state + skip * inputs) * silu(gate)

Mamba-1 has as many heads as channels, one group, and a decay for each number of the state.

Glossary: n rows of a batch, D d_inner, H heads, G groups, S state size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recurrence:
    """One layer's constants.

    Attributes:
        log2_decay: (S, D), or (H,) where a head decays as one.
        time_step_bias: (H,); None where the raw time step has it already.
        time_step_limits: smallest and largest; None where there is no limit.
        skip: (D,).
        num_heads: H.
        num_groups: G.
        state_size: S.
    """

    log2_decay: Tensor
    time_step_bias: Tensor | None
    time_step_limits: tuple[float, float] | None
    skip: Tensor
    num_heads: int
    num_groups: int
    state_size: int


@dataclass(frozen=True)
class Projected:
    """What a layer's first matrix makes of n rows.

    Attributes:
        gate: (n, D).
        conv_input: (n, C).
        time_step: (n, H), raw; None where it depends on the convolution's output.
    """

    gate: Tensor
    conv_input: Tensor
    time_step: Tensor | None


@dataclass(frozen=True)
class Selected:
    """What n tokens bring to the recurrence.

    Attributes:
        inputs: (n, D).
        time_step: (n, H), raw.
        drive: (n, G * S), the paper's B.
        readout: (n, G * S), the paper's C.
    """

    inputs: Tensor
    time_step: Tensor
    drive: Tensor
    readout: Tensor
