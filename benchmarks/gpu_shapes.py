"""Models with random weights in the shapes of well-known ones, and passes of any size, for benchmarks of a device."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MistralConfig, PretrainedConfig

from draftpool.vocabulary import Vocabulary
from verifier_service.attention import TREE_ATTENTION
from verifier_service.kv_store import KvStore
from verifier_service.packing import PassLayout, Segment
from verifier_service.target import Target

PAGE_TOKENS = 16

LARGE: dict[str, PretrainedConfig] = {
    "Pythia-6.9B": GPTNeoXConfig(
        vocab_size=50432,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=16384,
        max_position_embeddings=16384,  # 2048 as trained; longer texts cost what they would
    ),
    "Llama-3-8B": LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        max_position_embeddings=16384,
    ),
}

_TINY: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}

TINY: dict[str, PretrainedConfig] = {
    "tiny Llama": LlamaConfig(**_TINY, num_key_value_heads=2),
    "tiny GPT-NeoX": GPTNeoXConfig(**_TINY),
    "tiny Mistral with a window": MistralConfig(**_TINY, num_key_value_heads=2, sliding_window=6),
}


def random_target(name: str, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> Target:
    """A model of random weights, made on the device, with a vocabulary of tokens that stand for nothing."""
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, attn_implementation=TREE_ATTENTION
        )
    return Target(
        model=model.to(device).eval().requires_grad_(False),
        name=name,
        tokenizer_json="",
        vocabulary=Vocabulary((b"",) * config.vocab_size, ()),
        max_context_tokens=config.max_position_embeddings,
        num_parameters=model.num_parameters(),
        unused_ids=torch.empty(0, dtype=torch.int64, device=device),
    )


def weight_bytes(target: Target) -> int:
    """Of the weights that every pass reads: all but the embedding, of which it reads a few rows."""
    embedding = target.model.get_input_embeddings().weight
    return sum(
        parameter.nbytes for parameter in target.model.parameters() if parameter.data_ptr() != embedding.data_ptr()
    )


@dataclass(frozen=True)
class PassSize:
    """A pass of `batch` sessions, each with a context in the cache but for its last token, and a tree."""

    batch: int
    context: int
    num_nodes: int

    @property
    def num_rows(self) -> int:
        return self.batch * (1 + self.num_nodes)

    @property
    def num_pages(self) -> int:
        return self.batch * -(-(self.context + self.num_nodes) // PAGE_TOKENS)

    def layout(self) -> PassLayout:
        """Random tokens in random trees over random pages; every row is chosen in."""
        generator = np.random.default_rng(0)
        parents = tuple(int(generator.integers(-1, node)) for node in range(self.num_nodes))
        pages = generator.permutation(self.num_pages).reshape(self.batch, -1)
        stops = accumulate([1 + self.num_nodes] * self.batch)
        segments = tuple(
            Segment(stop - 1 - self.num_nodes, stop, self.context - 1, 1, parents, tuple(own.tolist()))
            for stop, own in zip(stops, pages, strict=True)
        )
        return PassLayout(
            token_ids=generator.integers(0, 256, self.num_rows),
            positions=np.concatenate([segment.positions() for segment in segments]),
            logit_rows=np.arange(self.num_rows),
            segments=segments,
        )


def fill(store: KvStore) -> None:
    """Put small random numbers everywhere, as time and rounding depend on what is computed with."""
    for kept in (*store.keys, *store.values):
        kept.normal_(std=0.5)
