"""One drafter replica, put together from its settings: model, engine, thread and vocabularies."""

from __future__ import annotations

import time

import torch

from drafter_service import metrics
from drafter_service.engine import DrafterEngine, DraftJob, DraftResult
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import load_mamba
from drafter_service.settings import DrafterSettings
from drafter_service.state_pool import StatePool
from drafter_service.vocabulary.speller import Speller
from drafter_service.vocabulary.tokenizer_file import read_tokenizer
from drafter_service.vocabulary.vocabularies import BridgeRegistry, drafter_vocabulary
from draftpool.dtypes import torch_dtype
from draftpool.engine_thread import EngineThread
from draftpool.errors import ModelNotServable
from draftpool.recent import RecentMean
from draftpool.v1 import load_pb2
from draftpool.wire import load_to_wire


class DrafterReplica:
    """What the servicer calls. Close it to stop the engine's thread.

    Raises:
        ModelNotServable: the checkpoint cannot be run, or the memory given does not hold the sessions promised.
    """

    def __init__(self, settings: DrafterSettings) -> None:
        torch.set_num_threads(settings.num_threads)
        tokenizer = read_tokenizer(settings.tokenizer or settings.model)
        weights = load_mamba(
            settings.model,
            dtype=torch_dtype(settings.dtype, torch.device(settings.device)),
            device=settings.device,
            num_tokens=tokenizer.num_tokens,
        )
        state_dtype: torch.dtype = getattr(torch, settings.state_dtype)
        num_slots = _num_slots(settings, weights.slot_bytes(state_dtype))
        self.settings = settings
        self.speller = Speller(drafter_vocabulary(tokenizer, weights), tokenizer.load())
        self.bridges = BridgeRegistry(settings.max_vocabularies)
        self.model = RecurrentModel(weights, num_slots, state_dtype=state_dtype)
        self.pool = StatePool(self.model.num_slots, settings.max_sessions)
        self.engine = DrafterEngine(
            self.model,
            self.pool,
            max_tree_nodes=settings.max_tree_nodes,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
        )
        self.thread: EngineThread[DraftJob] = EngineThread(
            self.engine.turn, name="drafter-engine", max_waiting=settings.max_waiting
        )
        self.queue = RecentMean()
        metrics.watch_pool(self.pool)
        metrics.BUSY_SHARE.set_function(lambda: self.thread.busy.at(time.monotonic()))
        metrics.RECENT_QUEUE_SECONDS.set_function(lambda: self.queue.at(time.monotonic()))

    def load(self) -> load_pb2.ReplicaLoad:
        """How busy it is now."""
        now_s = time.monotonic()
        return load_to_wire(
            num_sessions=self.pool.num_sessions,
            max_sessions=self.pool.max_sessions,
            num_waiting=self.thread.num_waiting,
            busy_share=self.thread.busy.at(now_s),
            queue_s=self.queue.at(now_s),
        )

    def count_draft(self, draft: DraftResult) -> None:
        metrics.count_draft(draft)
        self.queue.observe(draft.queue_us / 1e6, time.monotonic())

    def close(self) -> None:
        self.thread.close()


def _num_slots(settings: DrafterSettings, slot_bytes: int) -> int:
    """As many as the memory holds, but no more than sessions and trees can ever use."""
    num_affordable = settings.state_memory_mib * 2**20 // slot_bytes
    if num_affordable < settings.max_sessions:
        raise ModelNotServable(
            f"state_memory_mib={settings.state_memory_mib} holds {num_affordable} states of {slot_bytes} bytes, fewer "
            f"than max_sessions={settings.max_sessions}; raise the one or lower the other"
        )
    return min(num_affordable, settings.max_sessions * (1 + settings.max_tree_nodes))
