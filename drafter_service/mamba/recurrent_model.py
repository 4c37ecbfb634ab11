"""A recurrent model for tree drafting: states live in slots, children start from their parent's state by index.

What Mamba-1 and Mamba-2 share stands here; what differs are their mixers.

Glossary: n rows of a batch, T tokens of a chunk, V vocabulary.

Source: states in a tree, "Mamba Drafters for Speculative Decoding", arXiv:2506.01206.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.mamba.gathering import GatheringStepper
from drafter_service.mamba.slot_store import SlotStore
from drafter_service.mamba.stepper import MAX_ROWS, Stepper
from drafter_service.mamba.weights import RecurrentWeights

_MAX_STEPPED_TOKENS = 3
"""So few tokens are quicker one by one; what a round leaves to catch up is seldom more."""

_MAX_PREFILL_TOKENS = 256
"""Tokens prefilled at once; bounds the buffers and fills the matrix products."""


class RecurrentModel:
    """Computes on slots that somebody else hands out; used by one thread.

    Args:
        num_slots: each as large as one text's state.
        state_dtype: that slots are kept in; arithmetic is float32 always.
        is_in_place: whether steps compute in the slots, by Triton's kernels; without it, where the device is CUDA.
    """

    def __init__(
        self,
        weights: RecurrentWeights,
        num_slots: int,
        *,
        state_dtype: torch.dtype = torch.float32,
        is_in_place: bool | None = None,
    ) -> None:
        self._weights = weights
        self._num_slots = num_slots
        self._slots = SlotStore(
            weights.mixers[0].layout,
            num_layers=len(weights.mixers),
            num_slots=num_slots + 1,  # the last is for rows that pad a step
            dtype=state_dtype,
            device=self.device,
        )
        self._stepper = self._in_place() if _or_fitting(is_in_place, self.device) else self._gathering()

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.device

    @property
    def vocab_size(self) -> int:
        return self._weights.vocab_size

    @property
    def num_parameters(self) -> int:
        return self._weights.num_parameters

    @property
    def num_slots(self) -> int:
        return self._num_slots

    @property
    def slot_bytes(self) -> int:
        return self._weights.slot_bytes(self._slots.dtype)

    def reset(self, slot: int) -> None:
        """Make a slot the state before any token."""
        for layer, mixer in enumerate(self._weights.mixers):
            row = torch.zeros(1, self._slots.layout.num_numbers, device=self.device)
            self._slots.layout.window(row)[:, 1:] = mixer.convolution.bias
            self._slots.write(layer, slot, row)

    def copy(self, source: int, target: int) -> None:
        """Make one slot what another is."""
        for slots in self._slots.slots:
            slots[target].copy_(slots[source])

    def state(self, slot: int) -> Tensor:
        """(layers, numbers): a copy of what a slot remembers, float32."""
        rows = torch.cat([self._slots.read(layer, slot) for layer in range(len(self._weights.mixers))])
        return rows[:, self._slots.layout.conv_width :].clone()  # without the convolution's latest output

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        """Feed one token to each of n states.

        Args:
            token_ids: n drafter token ids.
            parent_slots: n slots to start from; they may repeat.
            child_slots: n different slots to leave the new states in; one may be its own parent, no other row's.

        Returns:
            (n, V) float32 logits of the token after each.
        """
        if len(token_ids) <= MAX_ROWS:
            return self._stepper.step(token_ids, parent_slots, child_slots)
        pieces = (slice(start, start + MAX_ROWS) for start in range(0, len(token_ids), MAX_ROWS))
        steps = (self._stepper.step(token_ids[rows], parent_slots[rows], child_slots[rows]) for rows in pieces)
        return torch.cat(list(steps))

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int], slot: int) -> None:
        """Feed T tokens to one state, in place; all but the recurrence runs in parallel over time."""
        if len(token_ids) <= _MAX_STEPPED_TOKENS:
            for token_id in token_ids:
                self._stepper.feed(token_id, slot)
            return
        for start in range(0, len(token_ids), _MAX_PREFILL_TOKENS):
            self._prefill(token_ids[start : start + _MAX_PREFILL_TOKENS], slot)

    def _prefill(self, token_ids: Sequence[int], slot: int) -> None:
        hidden = F.embedding(torch.tensor(token_ids, device=self.device), self._weights.embedding)
        for layer, mixer in enumerate(self._weights.mixers):
            row = self._slots.read(layer, slot)
            window, state = self._slots.layout.window(row)[0], self._slots.layout.state(row)[0]
            hidden = mixer.prefill(hidden, self._weights.norm(hidden), window, state)
            self._slots.write(layer, slot, row)

    def _gathering(self) -> Stepper:
        return GatheringStepper(self._weights, self._slots)

    def _in_place(self) -> Stepper:
        from drafter_service.mamba.in_place import InPlaceStepper  # Triton is not everywhere

        self.reset(self._num_slots)
        return InPlaceStepper(self._weights, self._slots, padding_slot=self._num_slots)


def _or_fitting(is_in_place: bool | None, device: torch.device) -> bool:
    return device.type == "cuda" and find_spec("triton") is not None if is_in_place is None else is_in_place
