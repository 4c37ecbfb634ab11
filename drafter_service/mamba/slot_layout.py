"""What one layer remembers of a text, and how a step finds it in the rows of its batch.

Glossary: n rows of a batch, K convolution window, C channels of the convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SlotLayout:
    """One layer's share of a slot: K rows of C numbers for the convolution, then the recurrent state.

    Row 0 of the K is the convolution's latest output; rows 1 .. K - 1 are what the tokens so far already contribute
    to the next K - 1 outputs, bias included.

    Attributes:
        conv_window: K.
        conv_width: C.
        state_shape: of the recurrent state.
    """

    conv_window: int
    conv_width: int
    state_shape: tuple[int, ...]

    @property
    def num_numbers(self) -> int:
        return self.conv_window * self.conv_width + math.prod(self.state_shape)

    def window(self, rows: Tensor) -> Tensor:
        """(n, numbers) to a view (n, K, C)."""
        return rows[:, : self.conv_window * self.conv_width].view(-1, self.conv_window, self.conv_width)

    def state(self, rows: Tensor) -> Tensor:
        """(n, numbers) to a view (n, *state_shape)."""
        return rows[:, self.conv_window * self.conv_width :].view(-1, *self.state_shape)


@dataclass(frozen=True)
class StepViews:
    """Where one layer of a step finds its parents' rows and leaves its children's.

    Attributes:
        parent_window: (n, K - 1, C), rows 1 .. K - 1.
        parent_state: (n, *state_shape).
        child_window: (n, K - 1, C), rows 0 .. K - 2: the parent's, one step on.
        child_newest: (n, 1, C), row K - 1.
        child_state: (n, *state_shape).
        conv_output: (n, C), row 0.
    """

    parent_window: Tensor
    parent_state: Tensor
    child_window: Tensor
    child_newest: Tensor
    child_state: Tensor
    conv_output: Tensor

    @classmethod
    def of(cls, layout: SlotLayout, parents: Tensor, children: Tensor) -> StepViews:
        """Views of two (n, numbers) buffers."""
        window = layout.window(children)
        return cls(
            parent_window=layout.window(parents)[:, 1:],
            parent_state=layout.state(parents),
            child_window=window[:, :-1],
            child_newest=window[:, -1:],
            child_state=layout.state(children),
            conv_output=window[:, 0],
        )
