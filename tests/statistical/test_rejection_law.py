"""The rejection rule leaves the target's law as it is: real engines on both sides, ten tokens, the loop's own walk.

Thousands of three-token continuations, drawn as trees of two levels by a Mamba that knows nothing of the target, are
held against the exact probabilities of all outcomes. The same test must refuse a walk that is a little wrong.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from drafter_service import draws
from drafter_service.engine import DrafterEngine, DraftJob
from drafter_service.growth import Row
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import load_mamba
from drafter_service.session import Session as DraftSession
from drafter_service.state_pool import StatePool
from drafter_service.vocabulary.bridge import Speller, VocabularyBridge
from draftpool import wire
from draftpool.choice import truncated
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree, TreeShape
from draftpool.v1 import verifier_pb2
from draftpool.vocabulary import Vocabulary
from orchestrator import rejection
from orchestrator.acceptance import AcceptedPath
from orchestrator.rejection import accept_drawn_path, rejection_uniforms
from orchestrator.sparse_laws import SparseLaws, draft_laws
from orchestrator.target_laws import TargetLaws, target_laws
from verifier_service.attention import TREE_ATTENTION
from verifier_service.choosing import Choice, Chooser
from verifier_service.engine import TargetEngine
from verifier_service.fitness import layer_shapes
from verifier_service.job import VerifyJob
from verifier_service.kv_store import KvStore
from verifier_service.limits import EngineLimits
from verifier_service.pages import PagePool
from verifier_service.runner import PassRunner
from verifier_service.schedule import PassLimits
from verifier_service.support import Support
from verifier_service.target import Target

VOCAB_SIZE = 10
NUM_SAMPLES = 3000
BATCH = 200
CONTEXT = [1, 2, 3]
NUM_NEW = 3
SUSPICIOUS = 1e-4
"""A lawful walk falls below this once in ten thousand tests; seeds are fixed, so a run that passes always passes."""

Walk = Callable[[DraftTree, SparseLaws, TargetLaws, np.ndarray], AcceptedPath]


@dataclass
class Pair:
    """A drafter and a target of ten tokens, each of random weights sharpened until its laws are far from uniform."""

    target: Target
    verifier: TargetEngine
    drafter: DrafterEngine
    bridge: VocabularyBridge


def sharpened(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(factor)
    return model.eval()


def ten_tokens() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({chr(97 + index): index for index in range(VOCAB_SIZE)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    vocabulary = Vocabulary(tuple(bytes([97 + index]) for index in range(VOCAB_SIZE)), ())
    llama = LlamaForCausalLM(
        LlamaConfig(
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
    )
    target = Target(sharpened(llama, 2.0), "ten tokens", "", vocabulary, 32, 0, torch.empty(0, dtype=torch.int64))
    limits = EngineLimits(
        max_sessions=BATCH, max_context_tokens=32, max_tree_nodes=12, of_pass=PassLimits(BATCH * 16, BATCH * 3)
    )
    store = KvStore(layer_shapes(target), num_pages=4 * BATCH, page_tokens=8)
    verifier = TargetEngine(PassRunner(target, store), PagePool(4 * BATCH, 8), limits, VOCAB_SIZE)
    folder: Path = tmp_path_factory.mktemp("mamba")
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB_SIZE, hidden_size=16, state_size=4, num_hidden_layers=1, tie_word_embeddings=False)
    )
    sharpened(mamba, 3.0).save_pretrained(folder)
    weights = load_mamba(str(folder), dtype=torch.float32, device="cpu")
    drafter = DrafterEngine(
        RecurrentModel(weights, 16 * BATCH), StatePool(16 * BATCH, BATCH), max_tree_nodes=12, prefill_chunk_tokens=4096
    )
    return Pair(target, verifier, drafter, VocabularyBridge(Speller(vocabulary, ten_tokens()), vocabulary))


def law(pair: Pair, params: SamplingParams) -> np.ndarray:
    """(V, V, V): of every three-token continuation, by the model of transformers alone, path by path."""
    pair.target.model.set_attn_implementation("eager")
    contexts = torch.tensor([[*CONTEXT, *ahead] for ahead in product(range(VOCAB_SIZE), repeat=NUM_NEW - 1)])
    with torch.no_grad():
        logits = pair.target.model(input_ids=contexts).logits[:, -NUM_NEW:].double()
    pair.target.model.set_attn_implementation(TREE_ATTENTION)
    for depth in range(NUM_NEW):
        for token_id, bias in params.logit_bias:
            logits[:, depth, token_id] += bias
        for ahead in range(depth):  # presence penalty: each token of the answer so far, once
            met = contexts[:, len(CONTEXT) + ahead]
            is_first = (contexts[:, len(CONTEXT) : len(CONTEXT) + ahead] != met[:, None]).all(dim=1)
            logits[torch.arange(len(contexts)), depth, met] -= params.presence_penalty * is_first
    rows = truncated(logits.flatten(0, 1) / params.temperature, params).softmax(-1)
    first, second, third = rows.reshape(VOCAB_SIZE, VOCAB_SIZE, NUM_NEW, VOCAB_SIZE).permute(2, 0, 1, 3).numpy()
    return first[0, 0][:, None, None] * second[:, 0][:, :, None] * third


def generate(pair: Pair, params: list[SamplingParams], shape: TreeShape, walk: Walk) -> Iterator[tuple[list[int], int]]:
    """Each request's first tokens, and how many of them were drafted."""
    drafting = [DraftSession(pair.bridge, own.for_drafter(), is_drawn=True) for own in params]
    verifying = [pair.verifier.new_session(Chooser(own, VOCAB_SIZE)) for own in params]
    unsent = [list(CONTEXT) for _ in params]
    answers: list[list[int]] = [[] for _ in params]
    num_drafted = [0] * len(params)
    while active := [index for index, answer in enumerate(answers) if len(answer) < NUM_NEW]:
        drafts = [DraftJob(drafting[i], unsent[i], shape.no_deeper_than(NUM_NEW - len(answers[i]) - 1)) for i in active]
        while waiting := [job for job in drafts if job.is_open]:
            pair.drafter.turn(waiting)
        trees = [job.future.result().tree for job in drafts]
        drawn = [
            draft_laws(wire.rows_to_wire(job.future.result().supports), tree, VOCAB_SIZE)
            for job, tree in zip(drafts, trees, strict=True)
        ]
        verdicts = [
            VerifyJob(verifying[i], unsent[i], tree, support=support_of(laws))
            for i, tree, laws in zip(active, trees, drawn, strict=True)
        ]
        while waiting := [job for job in verdicts if job.is_open]:
            pair.verifier.turn(waiting)
        for i, tree, laws, job in zip(active, trees, drawn, verdicts, strict=True):
            target = target_laws(reply(job.future.result().choice), laws, has_logprobs=False)
            uniforms = rejection_uniforms(params[i].seed, len(CONTEXT) + len(answers[i]), tree)
            path = walk(tree, laws, target, uniforms)
            unsent[i] = list(path.token_ids)
            answers[i] += path.token_ids
            num_drafted[i] += path.num_accepted
    for drafter_session, verifier_session in zip(drafting, verifying, strict=True):
        pair.drafter.close_session(drafter_session)
        pair.verifier.close_session(verifier_session)
    yield from zip(answers, num_drafted, strict=True)


def support_of(laws: SparseLaws) -> Support:
    return Support(tuple(laws.row_lengths.tolist()), tuple(laws.token_ids.tolist()))


def reply(choice: Choice) -> verifier_pb2.VerifyReply:
    """What the wire would carry, in float32."""
    return verifier_pb2.VerifyReply(
        target_probs={"probs": choice.support_probs},
        outside_probs=choice.outside_probs,
        outside_token_ids=choice.token_ids,
    )


def counts(
    pair: Pair, params: SamplingParams, shape: TreeShape, walk: Walk = accept_drawn_path
) -> tuple[np.ndarray, float]:
    """(V, V, V) how often each continuation came, and the share of its tokens that were drafted."""
    found = np.zeros((VOCAB_SIZE,) * NUM_NEW)
    num_drafted = 0
    for first_seed in range(0, NUM_SAMPLES, BATCH):
        seeds = [seed * 7919 for seed in range(first_seed, first_seed + BATCH)]
        for answer, drafted in generate(pair, [replace(params, seed=seed) for seed in seeds], shape, walk):
            found[tuple(answer)] += 1
            num_drafted += drafted
    return found, num_drafted / (NUM_SAMPLES * NUM_NEW)


def p_value(found: np.ndarray, probs: np.ndarray) -> float:
    """Chi-square goodness of fit; outcomes expected fewer than five times are counted together."""
    if found[probs == 0].any():
        return 0.0
    expected = probs.ravel() * found.sum()
    common = expected >= 5
    rare = np.array([found.ravel()[~common].sum(), expected[~common].sum()])
    observed, expected = found.ravel()[common], expected[common]
    if rare[1] >= 5:
        observed, expected = np.append(observed, rare[0]), np.append(expected, rare[1])
    return float(stats.chisquare(observed, expected * (observed.sum() / expected.sum())).pvalue)


def p_values(found: np.ndarray, probs: np.ndarray) -> list[float]:
    """Of the first token, of the first two, of the last two and of all three."""
    axes: list[tuple[int, ...]] = [(1, 2), (2,), (0,), ()]
    return [p_value(found.sum(axis), probs.sum(axis)) for axis in axes]


SAMPLINGS = {
    "plain": SamplingParams(),
    "temperature": SamplingParams(temperature=0.7),
    "top-k": SamplingParams(temperature=1.3, top_k=4),
    "top-p": SamplingParams(temperature=1.2, top_p=0.8),
    "min-p": SamplingParams(min_p=0.1),
    "bias and penalty": SamplingParams(presence_penalty=1.5, logit_bias=((4, 1.5), (7, -2.0))),
}


TREE = TreeShape((3, 2))


@pytest.mark.parametrize("params", SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_what_comes_out_follows_the_targets_law(pair: Pair, params: SamplingParams) -> None:
    found, share_drafted = counts(pair, params, TREE)
    assert share_drafted > 0.1  # or there would be nothing to test
    assert min(p_values(found, law(pair, params))) > SUSPICIOUS


def test_chains_are_no_exception(pair: Pair) -> None:
    found, share_drafted = counts(pair, SamplingParams(), TreeShape((1, 1)))
    assert share_drafted > 0.1
    assert min(p_values(found, law(pair, SamplingParams()))) > SUSPICIOUS


def test_laws_that_are_cut_along_their_paths_are_no_exception(pair: Pair, monkeypatch) -> None:
    cut_hard(monkeypatch)
    found, share_drafted = counts(pair, SamplingParams(), TREE)
    assert share_drafted > 0.1
    assert min(p_values(found, law(pair, SamplingParams()))) > SUSPICIOUS


def test_the_test_would_notice_a_law_that_is_not_what_was_drawn_from(pair: Pair, monkeypatch) -> None:
    """It adds up to 1 and names the same tokens, but is a little flatter."""
    right = draws._row

    def with_flatter_law(*columns) -> Row:
        row = right(*columns)
        weights = [prob**0.6 for _, prob in row.support]
        said = [(token_id, w / sum(weights)) for (token_id, _), w in zip(row.support, weights, strict=True)]
        return replace(row, support=said)

    cut_hard(monkeypatch)
    monkeypatch.setattr(draws, "_row", with_flatter_law)
    found, _ = counts(pair, SamplingParams(), TREE)
    assert min(p_values(found, law(pair, SamplingParams()))) < SUSPICIOUS


def cut_hard(monkeypatch) -> None:
    """So that some of the ten tokens go, and more the less likely the path is."""
    monkeypatch.setattr(draws, "LEVEL_TOKENS", 40)
    monkeypatch.setattr(draws, "LEAST_TOKENS", 1)


def test_the_test_would_notice_what_is_sampled_when_all_have_failed(pair: Pair, monkeypatch) -> None:
    """The likeliest mistake: from the target's law, not from what is left of it."""
    right = rejection.sibling_odds

    def without_residual(places, draft, target, outside) -> rejection.SiblingOdds:
        return rejection.SiblingOdds(right(places, draft, target, outside).accept_probs, target, outside)

    monkeypatch.setattr(rejection, "sibling_odds", without_residual)
    found, _ = counts(pair, SamplingParams(), TREE)
    assert min(p_values(found, law(pair, SamplingParams()))) < SUSPICIOUS


def test_the_test_would_notice_a_law_that_is_a_little_sharper(pair: Pair) -> None:
    found, _ = counts(pair, SamplingParams(temperature=0.9), TREE)
    assert min(p_values(found, law(pair, SamplingParams()))) < SUSPICIOUS
