"""The law of what comes out of the whole service is the target's law. Real processes, a 12-token vocabulary.

Thousands of three-token continuations, drafted as trees of two levels by another model, are held against the exact
probabilities of all 1728 outcomes, and of the 144 of the first two and of the last two tokens. The same test must
reject the same service asked for a slightly different law: it can fail.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, TreeShape
from tests.unhurried import unhurried

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOCAB_SIZE = 12
NUM_SAMPLES = 3000
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


def save_tokenizer(folder: Path) -> None:
    letters = "abcdefghijk"
    vocab = {"</s>": 0} | {letter: index + 1 for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["</s>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


def sharpened(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """A random model's laws are nearly uniform; larger output weights make them worth testing."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(factor)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.manual_seed(0)
    common = {"vocab_size": VOCAB_SIZE, "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": 0}
    target = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=32, num_attention_heads=4, max_position_embeddings=64, **common)
    )
    drafter = MambaForCausalLM(MambaConfig(hidden_size=16, state_size=4, tie_word_embeddings=False, **common))
    paths = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("drafter")
    for model, factor, path in zip((target, drafter), (12.0, 4.0), paths, strict=True):
        sharpened(model, factor).save_pretrained(path)
        save_tokenizer(path)
    return paths


@pytest.fixture(scope="module")
def probs(folders: tuple[Path, Path]) -> np.ndarray:
    """(12, 12, 12): the target's probability of every three-token continuation of the prompt at temperature 1."""
    model = LlamaForCausalLM.from_pretrained(folders[0])
    contexts = torch.tensor([[*PROMPT, *pair] for pair in product(range(VOCAB_SIZE), repeat=2)])
    with torch.inference_mode():
        laws = model(contexts).logits[:, -3:].double().softmax(-1).numpy()
    first, second, third = laws.reshape(VOCAB_SIZE, VOCAB_SIZE, 3, VOCAB_SIZE).transpose(2, 0, 1, 3)
    return first[0, 0][:, None, None] * second[:, 0][:, :, None] * third


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folders: tuple[Path, Path]) -> AsyncIterator[Client]:
    plan = StackPlan(targets=(str(folders[0]),), drafter=str(folders[1]), dtype="float32")
    with unhurried():
        async with Stack(plan) as stack, Client(stack.orchestrator) as connected:
            yield connected


async def sample(client: Client, **options: object) -> tuple[np.ndarray, Counter[int]]:
    """(12, 12, 12) counts over all continuations, one seed each, and how many tokens the first verify passes gave."""
    name = (await client.list_models())[0].name
    counts = np.zeros((VOCAB_SIZE,) * 3)
    first_passes: Counter[int] = Counter()
    slots = asyncio.Semaphore(16)

    async def one(seed: int) -> None:
        async with slots:
            completion = await client.complete(
                name, PROMPT, seed=seed, max_new_tokens=3, ignore_eos=True, drafting=TreeShape((3, 2)), **options
            )
        counts[completion.token_ids] += 1
        drafted = [token.drafted for token in completion.tokens]
        first_passes[1 + drafted.index(False)] += 1

    await asyncio.gather(*(one(seed) for seed in range(NUM_SAMPLES)))
    return counts, first_passes


def p_value(counts: np.ndarray, probs: np.ndarray) -> float:
    """Chi-square goodness of fit; outcomes expected fewer than five times are counted together."""
    expected = probs.ravel() * counts.sum()
    common = expected >= 5
    observed = np.append(counts.ravel()[common], counts.ravel()[~common].sum())
    return float(stats.chisquare(observed, np.append(expected[common], expected[~common].sum())).pvalue)


def p_values(counts: np.ndarray, probs: np.ndarray) -> list[float]:
    """Of all three tokens, of the first two and of the last two."""
    return [p_value(counts, probs), *(p_value(counts.sum(axis), probs.sum(axis)) for axis in (2, 0))]


async def test_the_output_follows_the_targets_law(client: Client, probs: np.ndarray) -> None:
    counts, first_passes = await sample(client, temperature=1.0)
    # Drafted tokens of both levels are among what is tested.
    assert first_passes[2] > 0.1 * NUM_SAMPLES
    assert first_passes[3] > 0.03 * NUM_SAMPLES
    assert min(p_values(counts, probs)) > 0.0005


async def test_under_the_rejection_rule_it_does_too(client: Client, probs: np.ndarray) -> None:
    counts, first_passes = await sample(client, temperature=1.0, acceptance="rejection")
    assert first_passes[2] > 0.1 * NUM_SAMPLES
    assert first_passes[3] > 0.03 * NUM_SAMPLES
    assert min(p_values(counts, probs)) > 0.0005


async def test_the_test_rejects_a_slightly_sharper_law(client: Client, probs: np.ndarray) -> None:
    counts, _ = await sample(client, temperature=0.85)
    assert max(p_values(counts, probs)) < 1e-4
    assert min(p_values(counts, probs)) < 1e-6
