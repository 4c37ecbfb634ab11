"""One layer's step in the slots themselves, by the kernels of `triton_kernels.py`.

`mamba1.py` and `mamba2.py` compute the same in torch operators on gathered rows. Needs
Triton, which comes with torch's CUDA builds; `TRITON_INTERPRET=1` lets the kernels run on a CPU, for tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafter_service.mamba.convolution import Convolution
from drafter_service.mamba.mixer import Mixer
from drafter_service.mamba.recurrence import Recurrence, Selected
from drafter_service.mamba.triton_kernels import convolve_rows, recur_rows

_CONV_BLOCK = 256
_MAX_TILE = 4096
"""Numbers of a program's state: what its registers hold."""


def step_in_slots(
    mixer: Mixer, hidden: Tensor, normed: Tensor, slots: Tensor, parents: Tensor, children: Tensor
) -> Tensor:
    """Feed one token to each of n states; see `drafter_service.mamba.mixer.Mixer.step`.

    Args:
        slots: (num_slots, numbers) of this layer; the children's are written.
        parents: (n,) int64.
        children: (n,) int64.
    """
    projected = mixer.project(normed)
    convolved = _convolve(projected.conv_input, mixer.convolution, slots, parents, children)
    selected = mixer.select(convolved, projected)
    return mixer.leave(hidden, _recur(selected, projected.gate, mixer.recurrence, slots, parents, children))


def _convolve(inputs: Tensor, convolution: Convolution, slots: Tensor, parents: Tensor, children: Tensor) -> Tensor:
    """(n, C) to (n, C), activated."""
    num_rows, width = inputs.shape
    output = torch.empty(num_rows, width, device=inputs.device)
    convolve_rows[(num_rows, -(-width // _CONV_BLOCK))](
        inputs,
        convolution.taps,
        convolution.bias,
        slots,
        parents,
        children,
        output,
        inputs.stride(0),
        slots.stride(0),
        WINDOW=convolution.window,
        WIDTH=width,
        BLOCK=_CONV_BLOCK,
    )
    return output


def _recur(
    selected: Selected, gate: Tensor, recurrence: Recurrence, slots: Tensor, parents: Tensor, children: Tensor
) -> Tensor:
    """(n, D): the gated output."""
    num_rows, width = selected.inputs.shape
    output = torch.empty(num_rows, width, device=gate.device)
    state_numbers = recurrence.state_size * width
    block_state = _power_of_two(recurrence.state_size)
    block = max(16, min(128, _MAX_TILE // block_state))
    limits, bias = recurrence.time_step_limits, recurrence.time_step_bias
    recur_rows[(num_rows, -(-width // block))](
        selected.inputs,
        selected.time_step,
        recurrence.skip if bias is None else bias,
        gate,
        selected.drive,
        selected.readout,
        recurrence.log2_decay,
        recurrence.skip,
        slots,
        parents,
        children,
        output,
        selected.inputs.stride(0),
        selected.time_step.stride(0),
        gate.stride(0),
        selected.drive.stride(0),
        slots.stride(0),
        *(limits or (0.0, 0.0)),
        HAS_BIAS=bias is not None,
        HAS_LIMITS=limits is not None,
        DECAY_BY_STATE=recurrence.log2_decay.dim() == 2,
        STATE_OFFSET=slots.shape[1] - state_numbers,
        STATE_SIZE=recurrence.state_size,
        WIDTH=width,
        HEAD_WIDTH=width // recurrence.num_heads,
        GROUP_WIDTH=width // recurrence.num_groups,
        BLOCK_STATE=block_state,
        BLOCK=block,
    )
    return output


def _power_of_two(number: int) -> int:
    """The smallest that is not below `number`."""
    return 1 << (number - 1).bit_length()
