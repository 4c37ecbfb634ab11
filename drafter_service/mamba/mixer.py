"""What the shared part of a recurrent model asks of the part that differs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from drafter_service.mamba.convolution import Convolution
from drafter_service.mamba.recurrence import Projected, Recurrence, Selected
from drafter_service.mamba.slot_layout import SlotLayout, StepViews


class Mixer(Protocol):
    """One layer: it mixes what it is given with what it remembers of the text before."""

    @property
    def convolution(self) -> Convolution: ...

    @property
    def layout(self) -> SlotLayout:
        """The same for all layers of a model."""

    @property
    def recurrence(self) -> Recurrence: ...

    def step(self, hidden: Tensor, normed: Tensor, views: StepViews) -> Tensor:
        """Feed one token to each of n states.

        Args:
            hidden: (n, d_model), the residual stream.
            normed: (n, d_model), the same at unit length.
            views: where the parents are; the children are written.

        Returns:
            (n, d_model), the residual stream after this layer.
        """

    def prefill(self, hidden: Tensor, normed: Tensor, window: Tensor, state: Tensor) -> Tensor:
        """Feed T tokens to one state.

        Args:
            hidden: (T, d_model), the residual stream.
            normed: (T, d_model), the same at unit length.
            window: (K, C), updated in place.
            state: of the layout's shape, updated in place.

        Returns:
            (T, d_model), the residual stream after this layer.
        """

    def project(self, normed: Tensor) -> Projected:
        """A step's beginning, up to the convolution, for whoever does the rest in place: (n, d_model) in."""

    def select(self, convolved: Tensor, projected: Projected) -> Selected:
        """From the convolution's output, (n, C), to the recurrence."""

    def leave(self, hidden: Tensor, gated: Tensor) -> Tensor:
        """From the recurrence's output, (n, D), back to the residual stream, (n, d_model)."""
