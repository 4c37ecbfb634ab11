"""The causal convolution in front of a recurrence, a token at a time and over many.

Glossary: n rows of a batch, T tokens, K convolution window, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drafter_service.mamba.slot_layout import StepViews


@dataclass(frozen=True)
class Convolution:
    """Every channel on its own.

    What a slot keeps are not past inputs but what they will contribute, see `SlotLayout`:
    a step adds `tap i * input` to row i + 1 and stores it as row i, which convolves and shifts at once.

    Attributes:
        taps: (K, C); row i weighs the token i steps back.
        bias: (C,).
    """

    taps: Tensor
    bias: Tensor

    @property
    def window(self) -> int:
        return self.taps.shape[0]

    @property
    def width(self) -> int:
        return self.taps.shape[1]

    @cached_property
    def _taps_but_last(self) -> Tensor:
        return self.taps[:-1]

    @cached_property
    def _last_tap(self) -> Tensor:
        return self.taps[-1]

    def step(self, inputs: Tensor, views: StepViews) -> Tensor:
        """(n, 1, C) to (n, C), a view that the next step overwrites; writes the children's windows."""
        torch.addcmul(views.parent_window, inputs, self._taps_but_last, out=views.child_window)
        torch.addcmul(self.bias, inputs, self._last_tap, out=views.child_newest)
        return views.conv_output

    def over_time(self, inputs: Tensor, window: Tensor) -> Tensor:
        """(T, C) to (T, C).

        Args:
            window: (K, C), a slot's; left as T steps would have left it.
        """
        num_tokens = inputs.shape[0]
        outputs = self.bias.repeat(num_tokens + self.window - 1, 1)
        for steps_back, tap in enumerate(self.taps):
            outputs[steps_back : steps_back + num_tokens].addcmul_(inputs, tap)
        outputs[: self.window - 1] += window[1:] - self.bias
        window.copy_(outputs[num_tokens - 1 :])
        return outputs[:num_tokens]
