"""From settings to a checked model over its KV store. Every rank of a group goes through the same steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from draftpool.errors import ModelNotServable
from verifier_service.buckets import default_buckets
from verifier_service.fitness import check_trees, layer_shapes
from verifier_service.graphs import GraphRunner
from verifier_service.kv_budget import kv_tokens
from verifier_service.kv_store import KvStore, LayerShape
from verifier_service.loading import load_target
from verifier_service.pages import PagePool
from verifier_service.parallel import num_ranks
from verifier_service.placement import Placement
from verifier_service.runner import PassRunner, Runner, has_kernels
from verifier_service.settings import VerifierSettings
from verifier_service.target import Target

log = logging.getLogger(__name__)

_NUM_SCRATCH_PAGES = 1
"""Behind those of the pool: recorded passes write there what nobody reads."""


@dataclass(frozen=True)
class ReadyTarget:
    """A model that can be served.

    Attributes:
        runner: computes its passes.
        pool: the pages of its KV store, all free.
    """

    target: Target
    runner: Runner
    pool: PagePool


def load(settings: VerifierSettings, *, num_ranks: int = 1) -> Target:
    """Load the model, or this rank's slice of it.

    Raises:
        ModelNotServable: it cannot be loaded, or is of a kind that is not served.
        BadParameter: settings that do not fit together.
    """
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    return load_target(
        settings.model,
        name=settings.name,
        dtype=settings.dtype,
        placement=Placement(settings.device, settings.device_map, num_ranks),
        quantization=settings.quantization,
    )


def make_ready(target: Target, settings: VerifierSettings) -> ReadyTarget:
    """Allocate the KV store, see that trees come out right, and record what can be recorded.

    Raises:
        ModelNotServable: they do not, or the memory given does not hold the cache.
    """
    layers = layer_shapes(target)
    num_pages = _num_pages(target, layers, settings)
    store = KvStore(layers, num_pages + _NUM_SCRATCH_PAGES, settings.page_tokens)
    pool = PagePool(num_pages, settings.page_tokens)
    runner: Runner = PassRunner(target, store)
    check_trees(target, runner, pool)
    if settings.cuda_graphs and _can_record(layers):
        runner = _recorded(runner, target, store, pool, settings)
        check_trees(target, runner, pool)
    return ReadyTarget(target, runner, pool)


def _num_pages(target: Target, layers: Sequence[LayerShape], settings: VerifierSettings) -> int:
    num_tokens = kv_tokens(target, layers, settings)
    num_pages = num_tokens // settings.page_tokens
    # A session at its shortest: one token and its tree; and what the check at start takes.
    if num_pages * settings.page_tokens <= max(settings.max_tree_nodes, 8):
        raise ModelNotServable(
            f"the KV cache holds {num_tokens} tokens, not even a tree of {settings.max_tree_nodes} nodes; "
            "raise kv_tokens, kv_bytes or kv_memory_share, or lower max_tree_nodes"
        )
    return num_pages


def _can_record(layers: Sequence[LayerShape]) -> bool:
    """One process, one device, and attention by kernels."""
    devices = {layer.device for layer in layers}
    return num_ranks() == 1 and len(devices) == 1 and has_kernels(*devices)


def _recorded(eager: Runner, target: Target, store: KvStore, pool: PagePool, settings: VerifierSettings) -> GraphRunner:
    from verifier_service.triton_attention import TritonAttention  # Triton is not everywhere

    begun = time.monotonic()
    graphs = GraphRunner(
        eager,
        target,
        store,
        TritonAttention,
        scratch_page=pool.num_pages,
        max_keys=min(target.max_context_tokens + settings.max_tree_nodes, pool.num_pages * pool.page_tokens),
        max_tree_nodes=settings.max_tree_nodes,
        buckets=default_buckets(max_sessions=settings.max_sessions, max_pass_tokens=settings.max_pass_tokens),
    )
    log.info("%d sizes of passes recorded in %.0f s", len(graphs.buckets), time.monotonic() - begun)
    return graphs
