"""One verifier replica, put together from its settings: target, KV pool, engine and thread."""

from __future__ import annotations

import torch

from draftpool.engine_thread import EngineThread
from draftpool.errors import ModelNotServable
from verifier_service import metrics
from verifier_service.engine import EngineLimits, TargetEngine, VerifyJob
from verifier_service.fitness import check_trees, layer_shapes
from verifier_service.kv_pool import KvPool, slots_for_bytes
from verifier_service.loading import load_target
from verifier_service.schedule import PassLimits
from verifier_service.settings import VerifierSettings
from verifier_service.target import Target


class VerifierReplica:
    """What the servicer calls. Close it to stop the engine's thread.

    Raises:
        ModelNotServable: the model cannot be served, or the memory given does not hold its cache.
        BadParameter: settings that do not fit together.
    """

    def __init__(self, settings: VerifierSettings) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self.settings = settings
        self.target = load_target(settings.model, name=settings.name, dtype=settings.dtype, device=settings.device)
        self.pool = _kv_pool(self.target, settings)
        check_trees(self.target, self.pool)
        self.limits = EngineLimits(
            max_sessions=settings.max_sessions,
            max_context_tokens=_max_context_tokens(self.target, self.pool, settings),
            max_tree_nodes=settings.max_tree_nodes,
            of_pass=PassLimits(settings.max_pass_tokens, settings.prefill_chunk_tokens),
        )
        self.engine = TargetEngine(self.target, self.pool, self.limits)
        self._watch()
        self.thread: EngineThread[VerifyJob] = EngineThread(
            self.engine.turn, name="verifier-engine", max_waiting=settings.max_waiting
        )

    def close(self) -> None:
        self.thread.close()

    def _watch(self) -> None:
        """Let the gauges read this replica."""
        metrics.SESSIONS.set_function(lambda: self.engine.num_sessions)
        metrics.KV_SLOTS_USED.set_function(lambda: self.pool.num_used)
        metrics.KV_SLOTS.set(self.pool.num_slots)


def _kv_pool(target: Target, settings: VerifierSettings) -> KvPool:
    layers = layer_shapes(target)
    num_slots = settings.kv_tokens or slots_for_bytes(layers, target.dtype, settings.kv_bytes)
    # A session at its shortest: one token and its tree; and what the check at start takes.
    if num_slots <= max(settings.max_tree_nodes, 8):
        raise ModelNotServable(
            f"the KV cache holds {num_slots} tokens, not even a tree of {settings.max_tree_nodes} nodes; "
            "raise kv_tokens or kv_bytes, or lower max_tree_nodes"
        )
    return KvPool(layers, num_slots, dtype=target.dtype, device=target.device)


def _max_context_tokens(target: Target, pool: KvPool, settings: VerifierSettings) -> int:
    """A text this long fits in the model's positions and, with the largest tree, in an empty pool."""
    possible = min(target.max_context_tokens, pool.num_slots - settings.max_tree_nodes)
    return min(possible, settings.max_context_tokens or possible)
