"""Drafters to compare, with one face: ours, and what transformers offers."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MambaConfig
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from drafter_service.engine import DraftJob
from drafter_service.replica import DrafterReplica
from drafter_service.session import Session
from drafter_service.settings import DrafterSettings
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.embedded import embedded_path
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, ROOT, DraftTree, TreeShape

GREEDY = SamplingParams(temperature=0)

MAMBA_130M = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16, eos_token_id=0)

_MAX_CONTEXT_TOKENS = 32768
_HEAD_SIZE, _HEADS_OF_A_KEY = 64, 3

LayerStates = list[tuple[Tensor, Tensor]]
"""By layer, the convolution's window and the recurrent state, n rows each."""


class Drafter(Protocol):
    """One session of a drafter."""

    def draft(self, committed_token_ids: Sequence[int], shape: TreeShape) -> DraftTree:
        """Take in what was committed since the last draft, at first the context, and draft."""


class OurPool:
    """Our engine on the caller's thread, with as many sessions as are asked for."""

    def __init__(self, folder: Path, *, max_sessions: int, state_memory_mib: int, dtype: str = "bfloat16") -> None:
        memory = {"max_sessions": max_sessions, "state_memory_mib": state_memory_mib}
        settings = DrafterSettings.model_validate({"model": str(folder), "dtype": dtype} | memory)
        self.replica = DrafterReplica(settings)
        self._bridge = VocabularyBridge(self.replica.speller, self.replica.speller.vocabulary)

    def session(self, params: SamplingParams = GREEDY) -> OurSession:
        return OurSession(self, Session(self._bridge, params))

    @property
    def held_bytes(self) -> int:
        """Of the slots that sessions and their trees hold now."""
        return self.replica.pool.num_used * self.replica.model.slot_bytes

    def draft_together(
        self, sessions: Sequence[OurSession], committed: Sequence[Sequence[int]], shape: TreeShape
    ) -> list[DraftTree]:
        """One draft of every session, all in the same turns."""
        jobs = [
            DraftJob(session.session, token_ids, shape) for session, token_ids in zip(sessions, committed, strict=True)
        ]
        while waiting := [job for job in jobs if job.is_open]:
            self.replica.engine.turn(waiting)
        return [job.future.result().tree for job in jobs]

    def close(self) -> None:
        self.replica.close()


class OurSession:
    """One session of ours."""

    def __init__(self, pool: OurPool, session: Session) -> None:
        self._pool = pool
        self.session = session

    def draft(self, committed_token_ids: Sequence[int], shape: TreeShape) -> DraftTree:
        return self._pool.draft_together([self], [committed_token_ids], shape)[0]

    def close(self) -> None:
        self._pool.replica.engine.close_session(self.session)


class MambaOfTransformers:
    """`MambaForCausalLM` with its cache, a level at a time in one batch.

    The cache can neither be cropped nor take several tokens at once later on, so the states after all nodes are kept,
    and committing goes on from the deepest one reached. Keeping costs no copy: `reorder_cache` makes new tensors.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self._kept: list[LayerStates] = []
        self._tree = EMPTY_TREE

    @torch.inference_mode()
    def draft(self, committed_token_ids: Sequence[int], shape: TreeShape) -> DraftTree:
        logits = self._advance(committed_token_ids)
        self._kept = []
        token_ids: list[int] = []
        parents: list[int] = []
        frontier = [ROOT]
        for level, num_children in enumerate(shape.branching):
            if level > 0:
                logits = self._step(torch.tensor(token_ids[-len(frontier) :]))
                self._kept.append(self._states())
            parents += [node for node in frontier for _ in range(num_children)]
            token_ids += logits.topk(num_children, dim=1).indices.flatten().tolist()
            frontier = list(range(len(token_ids) - len(logits) * num_children, len(token_ids)))
            if level + 1 < shape.depth:
                self._cache.reorder_cache(torch.arange(len(logits)).repeat_interleave(num_children))
        self._tree = DraftTree(tuple(token_ids), tuple(parents))
        return self._tree

    @torch.inference_mode()
    def prefill(self, context_ids: Sequence[int]) -> Tensor:
        """(1, V) logits after the context."""
        output = self._model(torch.tensor([list(context_ids)]), use_cache=True, logits_to_keep=1)
        self._cache = output.cache_params
        return output.logits[:, 0]  # type: ignore[no-any-return]

    def _advance(self, committed_token_ids: Sequence[int]) -> Tensor:
        """(1, V) logits after the last committed token."""
        if self._cache is None:
            return self.prefill(committed_token_ids)
        path = self._tree.walk(committed_token_ids[:-1])[: len(self._kept)]
        if not path:
            raise RuntimeError("the root's state is not kept: at least one node has to be accepted")
        self._restore(self._kept[len(path) - 1], row=self._tree_row(path[-1]))
        for token_id in committed_token_ids[len(path) :]:
            logits = self._step(torch.tensor([token_id]))
        return logits

    def _step(self, token_ids: Tensor) -> Tensor:
        """(n,) tokens to (n, V) logits."""
        output = self._model(token_ids[:, None], cache_params=self._cache, use_cache=True)
        return output.logits[:, 0]  # type: ignore[no-any-return]

    def _states(self) -> LayerStates:
        return [(layer.conv_states[0], layer.recurrent_states[0]) for layer in self._cache.layers]

    def _restore(self, states: LayerStates, row: int) -> None:
        for layer, (window, state) in zip(self._cache.layers, states, strict=True):
            layer.conv_states[0] = window[row : row + 1].clone()
            layer.recurrent_states[0] = state[row : row + 1].clone()

    def _tree_row(self, node: int) -> int:
        """A node's place in its level."""
        return node - self._tree.depths.index(self._tree.depths[node])


class LlamaOfTransformers:
    """A Llama that drafts chains by assisted generation's own code, as `generate(assistant_model=...)` calls it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._ids: Any = torch.empty(1, 0, dtype=torch.int64)
        self._generator: Any = None

    @torch.inference_mode()
    def draft(self, committed_token_ids: Sequence[int], shape: TreeShape) -> DraftTree:
        self._ids = torch.cat([self._ids, torch.tensor([list(committed_token_ids)])], dim=1)
        if self._generator is None:
            self._generator = self._new_generator(shape.depth)
        candidates, _ = self._generator.get_candidates(self._ids)
        token_ids = candidates[0, self._ids.shape[1] :].tolist()
        return DraftTree(tuple(token_ids), tuple(range(ROOT, len(token_ids) - 1)))

    @property
    def kv_bytes(self) -> int:
        if self._generator is None:
            return 0
        layers = self._generator.assistant_kwargs["past_key_values"].layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def _new_generator(self, num_tokens: int) -> Any:
        own = self._model.generation_config
        own.num_assistant_tokens, own.num_assistant_tokens_schedule = num_tokens, "constant"
        own.assistant_confidence_threshold = 0.0  # never stop early
        config = own.__class__(max_length=_MAX_CONTEXT_TOKENS, min_length=0, do_sample=False)
        position_ids = torch.arange(self._ids.shape[1])[None]
        as_generate_has_them = {"attention_mask": None, "position_ids": position_ids, "logits_to_keep": 1}
        return AssistedCandidateGenerator(self._ids, self._model, config, as_generate_has_them | {"use_cache": True})


def load_mamba_of_transformers(folder: Path, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)  # comes in eval mode


def random_llama(mamba: Any, dtype: torch.dtype) -> Any:
    """A Llama of a Mamba's width and number of parameters.

    It has half the layers, as a Mamba block does the work of half a Transformer layer (arXiv:2312.00752). Three heads
    share their keys and values, which keeps its cache small.
    """
    width, num_layers = mamba.config.hidden_size, math.ceil(mamba.config.num_hidden_layers / 2)
    num_heads = width // _HEAD_SIZE
    num_key_heads = num_heads // _HEADS_OF_A_KEY
    embedding = mamba.config.vocab_size * width
    attention = 2 * width * (width + _HEAD_SIZE * num_key_heads)
    mlp = (mamba.num_parameters() - embedding) // num_layers - attention
    config = LlamaConfig(
        vocab_size=mamba.config.vocab_size,
        hidden_size=width,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_key_heads,
        intermediate_size=mlp // (3 * width),
        max_position_embeddings=_MAX_CONTEXT_TOKENS,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    return model.requires_grad_(False).train(False)


def save_random_mamba(config: MambaConfig, folder: Path) -> None:
    """Write a checkpoint with random weights and the embedded drafter's tokenizer, whose ids are a part of its own."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    shutil.copy(embedded_path("tiny-mamba-drafter") / "tokenizer.json", folder)
