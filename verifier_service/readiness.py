"""From settings to a checked model over its KV store. Every rank of a group goes through the same steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from draftpool.errors import ModelNotServable
from verifier_service.fitness import check_trees, layer_shapes
from verifier_service.kv_store import KvStore, tokens_for_bytes
from verifier_service.loading import load_target
from verifier_service.pages import PagePool
from verifier_service.placement import Placement
from verifier_service.runner import PassRunner, Runner
from verifier_service.settings import VerifierSettings
from verifier_service.target import Target


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
    """Allocate the KV store and see that trees come out right.

    Raises:
        ModelNotServable: they do not, or the memory given does not hold the cache.
    """
    store = _kv_store(target, settings)
    pool = PagePool(store.num_pages, store.page_tokens)
    runner = PassRunner(target, store)
    check_trees(target, runner, pool)
    return ReadyTarget(target, runner, pool)


def _kv_store(target: Target, settings: VerifierSettings) -> KvStore:
    layers = layer_shapes(target)
    num_tokens = settings.kv_tokens or tokens_for_bytes(layers, settings.kv_bytes)
    num_pages = num_tokens // settings.page_tokens
    # A session at its shortest: one token and its tree; and what the check at start takes.
    if num_pages * settings.page_tokens <= max(settings.max_tree_nodes, 8):
        raise ModelNotServable(
            f"the KV cache holds {num_tokens} tokens, not even a tree of {settings.max_tree_nodes} nodes; "
            "raise kv_tokens or kv_bytes, or lower max_tree_nodes"
        )
    return KvStore(layers, num_pages, settings.page_tokens)
