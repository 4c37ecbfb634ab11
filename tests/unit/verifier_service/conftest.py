"""Targets of a few thousand random weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftpool.tree import DraftTree
from verifier_service.engine import TargetEngine
from verifier_service.fitness import layer_shapes
from verifier_service.job import Verdict, VerifyJob
from verifier_service.kv_store import KvStore
from verifier_service.limits import EngineLimits
from verifier_service.loading import load_target
from verifier_service.pages import PagePool
from verifier_service.runner import PassRunner, Runner
from verifier_service.schedule import PassLimits
from verifier_service.target import Target

torch.set_num_threads(1)

VOCAB_SIZE = 272
"""256 bytes and the end of text; the ids from 257 on pad the embedding and stand for nothing."""


def tiny_llama(hidden_size: int = 32) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=hidden_size * 3 // 2,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=256,
        eos_token_id=256,
    )
    return LlamaForCausalLM(config)


def tiny_neox() -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=256,
        eos_token_id=256,
    )
    return GPTNeoXForCausalLM(config)


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


def save(model: PreTrainedModel, folder: Path) -> Path:
    with torch.no_grad():  # as initialised, norms are ones and biases zero: too kind to the code
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    return save(tiny_llama(), tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def bfloat16_llama(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Wide enough that torch does not take its loops for very small products."""
    torch.manual_seed(5)
    folder = save(tiny_llama(hidden_size=128), tmp_path_factory.mktemp("models") / "wide-llama")
    return load_target(str(folder), dtype="bfloat16")


@pytest.fixture(scope="session")
def neox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    return save(tiny_neox(), tmp_path_factory.mktemp("models") / "tiny-neox")


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> Target:
    return load_target(str(llama_folder), dtype="float32")


@pytest.fixture(scope="session")
def neox(neox_folder: Path) -> Target:
    return load_target(str(neox_folder), dtype="float32")


@pytest.fixture(params=["llama", "neox"])
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.getfixturevalue(request.param)
    return found


Memory = tuple[PassRunner, PagePool]
MemoryMaker = Callable[..., Memory]


@pytest.fixture
def make_memory() -> MemoryMaker:
    """A KV cache of short pages, so that few tokens fill several, and what computes passes over it."""

    def make(target: Target, num_pages: int = 128, page_tokens: int = 4) -> Memory:
        store = KvStore(layer_shapes(target), num_pages, page_tokens)
        return PassRunner(target, store), PagePool(num_pages, page_tokens)

    return make


EngineMaker = Callable[..., TargetEngine]


@pytest.fixture
def make_engine(make_memory: MemoryMaker) -> EngineMaker:
    def make(
        target: Target,
        *,
        num_pages: int = 128,
        page_tokens: int = 4,
        max_sessions: int = 8,
        max_tree_nodes: int = 48,
        max_pass_tokens: int = 512,
        prefill_chunk_tokens: int = 256,
        wrap_runner: Callable[[Runner], Runner] = lambda runner: runner,
        clock: Callable[[], float] = time.monotonic,
    ) -> TargetEngine:
        limits = EngineLimits(
            max_sessions=max_sessions,
            max_context_tokens=min(target.max_context_tokens, num_pages * page_tokens - max_tree_nodes),
            max_tree_nodes=max_tree_nodes,
            of_pass=PassLimits(max_pass_tokens, prefill_chunk_tokens),
        )
        runner, pool = make_memory(target, num_pages, page_tokens)
        return TargetEngine(wrap_runner(runner), pool, limits, target.vocab_size, clock=clock)

    return make


def run_to_the_end(engine: TargetEngine, *jobs: VerifyJob) -> list[Verdict]:
    """Turn until every job is answered, as the engine's thread does."""
    while open_jobs := [job for job in jobs if job.is_open]:
        engine.turn(open_jobs)
    return [job.future.result() for job in jobs]


@pytest.fixture
def run_jobs() -> Callable[..., list[Verdict]]:
    return run_to_the_end


def random_tree(seed: int, num_nodes: int, vocab_size: int = 256) -> DraftTree:
    """A tree with random parents; siblings differ because every node carries its own token."""
    generator = torch.Generator().manual_seed(seed)
    token_ids = torch.randperm(vocab_size, generator=generator)[:num_nodes].tolist()
    parents = [int(torch.randint(-1, node, (), generator=generator)) if node else -1 for node in range(num_nodes)]
    return DraftTree(tuple(token_ids), tuple(parents))


@pytest.fixture
def make_tree() -> Callable[..., DraftTree]:
    return random_tree


def random_ids(seed: int, num_tokens: int) -> list[int]:
    generator = torch.Generator().manual_seed(1000 + seed)
    ids: list[int] = torch.randint(0, 256, (num_tokens,), generator=generator).tolist()
    return ids


@pytest.fixture
def make_ids() -> Callable[[int, int], Sequence[int]]:
    return random_ids
