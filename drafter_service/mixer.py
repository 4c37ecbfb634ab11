"""What the shared part of a recurrent model asks of the part that differs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from drafter_service.convolution import Convolution
from drafter_service.slot_layout import SlotLayout, StepViews


class Mixer(Protocol):
    """One layer: it mixes what it is given with what it remembers of the text before."""

    @property
    def convolution(self) -> Convolution: ...

    @property
    def layout(self) -> SlotLayout:
        """The same for all layers of a model."""

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
