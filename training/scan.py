"""The linear recurrence at the heart of Mamba, fast enough on one CPU core to train with.

Transformers' CPU path builds an autograd graph node for every time step. Here a sequence is one node: the forward loop
writes its states into one tensor, and the backward loop walks them in reverse by hand.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decays: Tensor, inputs: Tensor) -> Tensor:
        states = torch.empty_like(inputs)
        states[0] = inputs[0]
        by_time = states.unbind()
        steps = zip(by_time, by_time[1:], decays.unbind()[1:], inputs.unbind()[1:], strict=False)
        for previous, state, decay, added in steps:
            torch.addcmul(added, decay, previous, out=state)
        ctx.save_for_backward(decays, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, state_gradients: Tensor) -> tuple[Tensor, Tensor]:
        decays, states = ctx.saved_tensors
        input_gradients = torch.empty_like(states)
        input_gradients[-1] = state_gradients[-1]
        backwards = zip(
            input_gradients.unbind()[:0:-1],
            input_gradients.unbind()[-2::-1],
            decays.unbind()[:0:-1],
            state_gradients.unbind()[-2::-1],
            strict=True,
        )
        for later, gradient, later_decay, direct in backwards:
            torch.addcmul(direct, later_decay, later, out=gradient)
        decay_gradients = torch.empty_like(decays)
        decay_gradients[0] = 0.0
        torch.mul(input_gradients[1:], states[:-1], out=decay_gradients[1:])
        return decay_gradients, input_gradients


def linear_scan(decays: Tensor, inputs: Tensor) -> Tensor:
    """Solve `state[t] = decays[t] * state[t - 1] + inputs[t]` from a zero state, differentiably.

    Args:
        decays: (length, ...); the first one multiplies the zero state and so has no effect.
        inputs: (length, ...), like `decays`.

    Returns:
        (length, ...) states. They and the decays are kept for the backward pass, which differentiates once only.
    """
    states: Tensor = _LinearScan.apply(decays, inputs)  # type: ignore[no-untyped-call]
    return states
