"""Passes recorded once and replayed: on CUDA a small pass takes longer to launch than to compute.

Every bucket's pass reads the same memory, into which each pass's integers are copied. All that differs between passes
of a bucket is in there, so a replay computes whatever was copied last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from draftpool.cuda_graphs import CudaGraphs, Pass, Recorder, as_it_is
from verifier_service.attention import Attention
from verifier_service.buckets import Bucket, choose_bucket, padded
from verifier_service.kv_store import KvStore
from verifier_service.packing import IntArray, PassLayout
from verifier_service.pass_tensors import PassShape, PassTensors, lay_out
from verifier_service.runner import Runner
from verifier_service.target import Target
from verifier_service.transfer import pinned_for

log = logging.getLogger(__name__)

AttentionMaker = Callable[[KvStore, PassTensors], Attention]

_NOTHING: IntArray = np.empty(0, dtype=np.int64)
_NO_PASS = PassLayout(_NOTHING, _NOTHING, _NOTHING, segments=())


class GraphRunner:
    """Computes small passes by replaying recorded ones, see `verifier_service.runner.Runner`.

    The logits of a pass are overwritten by the next one.

    Args:
        eager: computes the passes that fit in no bucket.
        make_attention: for the recorded passes; must compute from the tensors alone and read nothing back.
        scratch_page: of the store, of no session: the padding's keys and values go there.
        max_keys: of a session, its tree included.
        max_tree_nodes: of one tree.
        buckets: what is recorded, at once.
        record: what makes a pass quick to repeat; without it a CUDA graph, and on a CPU the pass as it is.
    """

    def __init__(
        self,
        eager: Runner,
        target: Target,
        store: KvStore,
        make_attention: AttentionMaker,
        *,
        scratch_page: int,
        max_keys: int,
        max_tree_nodes: int,
        buckets: Sequence[Bucket],
        record: Recorder | None = None,
    ) -> None:
        self._eager = eager
        self._target = target
        self._store = store
        self._make_attention = make_attention
        self._scratch_page = scratch_page
        self._shapes = {
            bucket: bucket.shape(max_keys=max_keys, max_tree_nodes=max_tree_nodes, page_tokens=store.page_tokens)
            for bucket in buckets
        }
        num_integers = max((sum(shape.sections) for shape in self._shapes.values()), default=0)
        self._flat = torch.zeros(num_integers, dtype=torch.int32, device=target.device)
        self._passes: dict[Bucket, Pass] = {}
        self._record_all(record or (CudaGraphs(target.device) if target.device.type == "cuda" else as_it_is))

    @property
    def buckets(self) -> list[Bucket]:
        """Those that are recorded."""
        return list(self._passes)

    @torch.inference_mode()
    def run(self, layout: PassLayout) -> Tensor:
        """See `Runner.run`."""
        bucket = choose_bucket(self.buckets, layout)
        if bucket is None:
            return self._eager.run(layout)
        self._store.move(*layout.moved)
        self._store.clear(layout.cleared)
        self._fill(layout, bucket)
        return self._passes[bucket]()[: len(layout.logit_rows)]

    @torch.inference_mode()
    def _record_all(self, record: Recorder) -> None:
        """The largest first: what it needs of memory, the others use after it.

        A model that reads its own tensors back, as some with experts do, cannot be recorded, whatever the bucket.
        """
        for bucket in sorted(self._shapes, reverse=True):
            self._fill(_NO_PASS, bucket)
            try:
                self._passes[bucket] = record(self._pass_over(self._shapes[bucket]))
            except RuntimeError as error:
                first_line = str(error).strip().partition("\n")[0]
                log.warning("passes of up to %d rows are not recorded: %s", bucket.num_rows, first_line)
                return

    def _pass_over(self, shape: PassShape) -> Pass:
        def compute() -> Tensor:
            tensors = PassTensors.over(self._flat, shape)
            attention = self._make_attention(self._store, tensors)
            return self._target.logits(tensors.token_ids, tensors.positions, tensors.logit_rows, attention)

        return compute

    def _fill(self, layout: PassLayout, bucket: Bucket) -> None:
        page_tokens = self._store.page_tokens
        full = padded(layout, bucket, scratch_page=self._scratch_page, page_tokens=page_tokens)
        integers = torch.from_numpy(lay_out(full, self._shapes[bucket], page_tokens))
        self._flat[: len(integers)].copy_(pinned_for(integers, self._flat.device), non_blocking=True)
