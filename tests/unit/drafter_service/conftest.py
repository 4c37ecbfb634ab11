"""A drafter of a few thousand random weights, and tokenizers of a few hundred tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MambaForCausalLM, PreTrainedModel

from drafter_service.engine import DrafterEngine, DraftJob
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import load_mamba
from drafter_service.session import Session
from drafter_service.state_pool import StatePool
from drafter_service.vocabulary.bridge import Speller, VocabularyBridge
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree, TreeShape
from draftpool.vocabulary import Vocabulary
from tests.unit.drafter_service.checkpoints import MAMBA1, random_model

torch.set_num_threads(1)

DRAFTER_VOCAB_SIZE = 320
TARGET_VOCAB_SIZE = 400
DRAFTER_TEXT = ["the cat sat on the mat and the dog sat on the cat"] * 2
TARGET_TEXT = ["she sells seashells on the sea shore; the shells she sells are sea shells"] * 2


def byte_level_tokenizer(text: list[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def vocabulary_of(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=vocab_size, eos_token_ids=[0])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, drafter_tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("drafter")
    random_model(MAMBA1).save_pretrained(folder)
    drafter_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> PreTrainedModel:
    return MambaForCausalLM.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def drafter_tokenizer() -> Tokenizer:
    return byte_level_tokenizer(DRAFTER_TEXT, DRAFTER_VOCAB_SIZE)


@pytest.fixture(scope="session")
def target_tokenizer() -> Tokenizer:
    return byte_level_tokenizer(TARGET_TEXT, TARGET_VOCAB_SIZE)


@pytest.fixture(scope="session")
def target_vocabulary(target_tokenizer: Tokenizer) -> Vocabulary:
    return vocabulary_of(target_tokenizer, TARGET_VOCAB_SIZE)


@pytest.fixture(scope="session")
def speller(drafter_tokenizer: Tokenizer) -> Speller:
    return Speller(vocabulary_of(drafter_tokenizer, DRAFTER_VOCAB_SIZE), drafter_tokenizer)


@pytest.fixture(scope="session")
def same_bridge(speller: Speller) -> VocabularyBridge:
    return VocabularyBridge(speller, speller.vocabulary)


@pytest.fixture(scope="session")
def other_bridge(speller: Speller, target_vocabulary: Vocabulary) -> VocabularyBridge:
    return VocabularyBridge(speller, target_vocabulary)


EngineMaker = Callable[..., DrafterEngine]


@pytest.fixture
def make_engine(checkpoint: Path) -> EngineMaker:
    weights = load_mamba(str(checkpoint), dtype=torch.float32, device="cpu")

    def make(*, num_slots: int = 128, max_sessions: int = 8, prefill_chunk_tokens: int = 256) -> DrafterEngine:
        return DrafterEngine(
            RecurrentModel(weights, num_slots),
            StatePool(num_slots, max_sessions),
            max_tree_nodes=64,
            prefill_chunk_tokens=prefill_chunk_tokens,
        )

    return make


def turn_until_answered(engine: DrafterEngine, jobs: Sequence[DraftJob]) -> None:
    """As the engine's thread does."""
    for _ in range(1000):
        if not (open_jobs := [job for job in jobs if job.is_open]):
            return
        engine.turn(open_jobs)
    raise RuntimeError("the engine does not come to an end")


def run_to_the_end(engine: DrafterEngine, jobs: Sequence[DraftJob]) -> list[DraftTree]:
    turn_until_answered(engine, jobs)
    return [job.future.result().tree for job in jobs]


@pytest.fixture
def run_until() -> Callable[[DrafterEngine, Sequence[DraftJob]], None]:
    return turn_until_answered


@pytest.fixture
def run_jobs() -> Callable[[DrafterEngine, Sequence[DraftJob]], list[DraftTree]]:
    return run_to_the_end


@pytest.fixture
def draft() -> Callable[[DrafterEngine, Session, Sequence[int], TreeShape], DraftTree]:
    def draft_one(
        engine: DrafterEngine, session: Session, committed_token_ids: Sequence[int], shape: TreeShape
    ) -> DraftTree:
        return run_to_the_end(engine, [DraftJob(session, committed_token_ids, shape)])[0]

    return draft_one


GREEDY = SamplingParams(temperature=0)
SAMPLED = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, seed=1234)


@pytest.fixture(params=[GREEDY, SAMPLED], ids=["greedy", "sampled"])
def params(request: pytest.FixtureRequest) -> SamplingParams:
    value: SamplingParams = request.param
    return value
