"""The tokens that the verifier chooses follow the target's law, whatever seeds and trees."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from draftpool.choice import gumbel_rows
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from draftpool.vocabulary import Vocabulary
from verifier_service import choosing
from verifier_service.attention import TREE_ATTENTION
from verifier_service.choosing import Chooser
from verifier_service.engine import TargetEngine
from verifier_service.fitness import layer_shapes
from verifier_service.job import VerifyJob
from verifier_service.kv_store import KvStore
from verifier_service.limits import EngineLimits
from verifier_service.pages import PagePool
from verifier_service.runner import PassRunner
from verifier_service.schedule import PassLimits
from verifier_service.target import Target

VOCAB_SIZE = 10
NUM_SAMPLES = 3000
BATCH = 200
CONTEXT = [1, 2, 3]
TREE = DraftTree((4, 5, 6), (-1, 0, -1))
PATHS = ([], [4], [4, 5], [6])
SUSPICIOUS = 1e-4
"""A lawful sampler falls below this once in ten thousand tests; seeds are fixed, so a run that passes always passes."""


@pytest.fixture(scope="module")
def target() -> Target:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.25,
        attn_implementation=TREE_ATTENTION,
    )
    vocabulary = Vocabulary(tuple(bytes([65 + index]) for index in range(VOCAB_SIZE)), ())
    no_ids = torch.empty(0, dtype=torch.int64)
    return Target(LlamaForCausalLM(config).eval(), "ten tokens", "", vocabulary, 32, 0, no_ids)


@pytest.fixture(scope="module")
def engine(target: Target) -> TargetEngine:
    limits = EngineLimits(
        max_sessions=BATCH, max_context_tokens=32, max_tree_nodes=4, of_pass=PassLimits(BATCH * 8, BATCH * 3)
    )
    store = KvStore(layer_shapes(target), num_pages=BATCH, page_tokens=8)
    return TargetEngine(PassRunner(target, store), PagePool(BATCH, 8), limits, VOCAB_SIZE)


def own_law(target: Target, token_ids: list[int], params: SamplingParams) -> torch.Tensor:
    """(V,): softmax after temperature, top-k and top-p, written as in a textbook."""
    target.model.set_attn_implementation("eager")
    with torch.inference_mode():
        logits = target.model(input_ids=torch.tensor([token_ids])).logits[0, -1].double()
    target.model.set_attn_implementation(TREE_ATTENTION)
    probs, order = (logits / params.temperature).softmax(-1).sort(descending=True)
    if params.top_k:
        probs[params.top_k :] = 0
        probs /= probs.sum()
    probs[probs.cumsum(-1) - probs >= params.top_p] = 0
    return torch.zeros(VOCAB_SIZE, dtype=torch.float64).scatter_(0, order, probs / probs.sum())


def counts(engine: TargetEngine, params: SamplingParams) -> torch.Tensor:
    """(4, V): how often each token is chosen after the context and after each node, over many seeds."""
    found = torch.zeros(len(PATHS), VOCAB_SIZE)
    for first_seed in range(0, NUM_SAMPLES, BATCH):
        seeds = range(first_seed, first_seed + BATCH)
        sessions = [engine.new_session(Chooser(replace(params, seed=seed * 7919), VOCAB_SIZE)) for seed in seeds]
        jobs = [VerifyJob(session, CONTEXT, TREE) for session in sessions]
        engine.turn(jobs)
        for job in jobs:
            for row, token_id in enumerate(job.future.result().choice.token_ids):
                found[row, token_id] += 1
        for session in sessions:
            engine.close_session(session)
    return found


def fit(observed: torch.Tensor, law: torch.Tensor) -> float:
    """The chi-square test's probability of such counts under `law`; tokens outside its support must not occur."""
    support = law > 0
    if observed[~support].any():
        return 0.0
    expected = law[support] * observed.sum()
    return float(chisquare(observed[support].numpy(), expected.numpy()).pvalue)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=1.4, top_k=4),
        SamplingParams(temperature=1.2, top_p=0.8),
        SamplingParams(temperature=1.3, top_k=6, top_p=0.85),
    ],
    ids=["plain", "temperature", "top-k", "top-p", "all"],
)
def test_chosen_tokens_follow_the_softmax_after_temperature_top_k_and_top_p(target, engine, params) -> None:
    observed = counts(engine, params)
    for row, path in enumerate(PATHS):
        assert fit(observed[row], own_law(target, CONTEXT + path, params)) > SUSPICIOUS


def test_a_biased_sampler_does_not_pass(target, engine, monkeypatch) -> None:
    """Noise that is a sixth too weak sharpens the law a little; the same test refuses it."""
    monkeypatch.setattr(choosing, "gumbel_rows", lambda noise, positions: gumbel_rows(noise, positions) * 5 / 6)
    observed = counts(engine, SamplingParams())
    for row, path in enumerate(PATHS):
        assert fit(observed[row], own_law(target, CONTEXT + path, SamplingParams())) < SUSPICIOUS
