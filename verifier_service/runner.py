"""Computes passes: the target over its KV store."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from verifier_service.grouped_attention import GroupedAttention
from verifier_service.kv_store import KvStore
from verifier_service.packing import PassLayout
from verifier_service.pass_tensors import PassTensors
from verifier_service.target import Target
from verifier_service.transfer import to_device


class Runner(Protocol):
    """What an engine has its passes computed by."""

    def run(self, layout: PassLayout) -> Tensor:
        """Compute a pass.

        Returns:
            (R, V) float32: logits of the rows that the layout asks for, until the next pass. The store holds all its
            tokens then.

        Raises:
            torch.OutOfMemoryError: the pass is too large for the device; its tokens count as not computed.
        """


class PassRunner:
    """Computes passes in this process: by kernels where the device has them, else by torch operators."""

    def __init__(self, target: Target, store: KvStore) -> None:
        self._target = target
        self._store = store
        self._has_kernels = all(has_kernels(keys.device) for keys in store.keys)

    @torch.inference_mode()
    def run(self, layout: PassLayout) -> Tensor:
        """See `Runner.run`."""
        self._store.move(*layout.moved)
        self._store.clear(layout.cleared)
        return self._run_by_kernels(layout) if self._has_kernels else self._run_by_operators(layout)

    def _run_by_kernels(self, layout: PassLayout) -> Tensor:
        from verifier_service.triton_attention import TritonAttention  # Triton is not everywhere

        tensors = PassTensors.of(layout, self._store.page_tokens, self._target.device)
        attention = TritonAttention(self._store, tensors)
        return self._target.logits(tensors.token_ids, tensors.positions, tensors.logit_rows, attention)

    def _run_by_operators(self, layout: PassLayout) -> Tensor:
        device = self._target.device
        token_ids, positions, logit_rows = (
            to_device(torch.from_numpy(numbers), device)
            for numbers in (layout.token_ids, layout.positions, layout.logit_rows)
        )
        return self._target.logits(token_ids, positions, logit_rows, GroupedAttention(self._store, layout.segments))


def has_kernels(device: torch.device) -> bool:
    """Whether attention on this device is computed by `verifier_service.triton_attention`."""
    return device.type == "cuda" and find_spec("triton") is not None
