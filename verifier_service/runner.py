"""Computes passes: the target over its KV store."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from verifier_service.grouped_attention import GroupedAttention
from verifier_service.kv_store import KvStore
from verifier_service.packing import PassLayout
from verifier_service.target import Target


class Runner(Protocol):
    """What an engine has its passes computed by."""

    def run(self, layout: PassLayout) -> Tensor:
        """Compute a pass.

        Returns:
            (R, V) float32: logits of the rows that the layout asks for. The store holds all its tokens then.

        Raises:
            torch.OutOfMemoryError: the pass is too large for the device; its tokens count as not computed.
        """


class PassRunner:
    """Computes passes in this process."""

    def __init__(self, target: Target, store: KvStore) -> None:
        self._target = target
        self._store = store

    @torch.inference_mode()
    def run(self, layout: PassLayout) -> Tensor:
        """See `Runner.run`."""
        self._store.move(*layout.moved)
        self._store.clear(layout.cleared)
        device = self._target.device
        return self._target.logits(
            torch.from_numpy(layout.token_ids).to(device),
            torch.from_numpy(layout.positions).to(device),
            torch.from_numpy(layout.logit_rows).to(device),
            GroupedAttention(self._store, layout.segments),
        )
