"""Steps on the slots themselves, recorded once for each bucket of rows: for CUDA, where launching is what costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.mamba.slot_store import SlotStore
from drafter_service.mamba.stepper import MAX_ROWS
from drafter_service.mamba.triton_steps import step_in_slots
from drafter_service.mamba.weights import RecurrentWeights
from draftpool.cuda_graphs import CudaGraphs, Recorder, as_it_is

_BUCKETS = [1 << power for power in range(MAX_ROWS.bit_length())]
"""Numbers of rows that are recorded; a step is padded to the next."""


class InPlaceStepper:
    """See `drafter_service.mamba.stepper.Stepper`.

    Args:
        padding_slot: of no session; the rows that pad a bucket read and write it.
        record: what makes a step quick to repeat; without it a CUDA graph, and on a CPU the step as it is.
    """

    def __init__(
        self, weights: RecurrentWeights, store: SlotStore, *, padding_slot: int, record: Recorder | None = None
    ) -> None:
        self._weights = weights
        self._store = store
        self._padding = torch.tensor([[0], [padding_slot], [padding_slot]])
        record = record or (CudaGraphs(store.device) if store.device.type == "cuda" else as_it_is)
        self._inputs = {
            rows: self._padding.repeat(1, rows).to(store.device) for rows in _BUCKETS
        }  # token ids, parents, children
        with torch.inference_mode():  # the largest first: what it needs of memory, the others use after it
            self._steps = {rows: record(self._step_over(self._inputs[rows])) for rows in reversed(_BUCKETS)}

    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        num_rows = len(token_ids)
        bucket = next(rows for rows in _BUCKETS if rows >= num_rows)
        inputs = self._padding.repeat(1, bucket)
        inputs[:, :num_rows] = torch.tensor([token_ids, parent_slots, child_slots])
        self._inputs[bucket].copy_(inputs)
        return self._steps[bucket]()[:num_rows].clone()  # the next step overwrites what this one returns

    def feed(self, token_id: int, slot: int) -> None:
        self.step([token_id], [slot], [slot])

    def _step_over(self, inputs: Tensor) -> Callable[[], Tensor]:
        """A step of whatever lies in (3, rows) memory."""
        token_ids, parents, children = inputs.unbind(0)
        weights, layers = self._weights, self._store.layers

        def compute() -> Tensor:
            hidden = F.embedding(token_ids, weights.embedding)
            for mixer, slots in zip(weights.mixers, layers, strict=True):
                hidden = step_in_slots(mixer, hidden, weights.norm(hidden), slots, parents, children)
            return weights.head(weights.norm(hidden))

        return compute
