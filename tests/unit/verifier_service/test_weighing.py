"""What the rejection rule needs of a target: its law on a support, and a token from outside of it."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftpool.choice import truncated
from draftpool.errors import BadParameter, TokenOutOfVocabulary
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from tests.unit.verifier_service.test_any_parameters import EOS, any_params, chooser_of
from verifier_service.choosing import Chooser, Question, choose_all
from verifier_service.grammar import GrammarCompiler
from verifier_service.job import VerifyJob
from verifier_service.support import Support
from verifier_service.weighing import weigh

WARM = SamplingParams(temperature=0.9, seed=5)
TREE = DraftTree((1, 2, 3), (-1, 0, -1))
SUPPORT = Support((3, 2, 0, 1), (1, 3, 9, 2, 200, 7))
ALL = tuple(range(257))
"""Tokens that stand for something."""


def ask(engine, run_jobs, context, tree=TREE, support=SUPPORT, params=WARM, **options):
    session = engine.new_session(options.pop("chooser", None) or Chooser(params, 272, **options))
    (verdict,) = run_jobs(engine, VerifyJob(session, context, tree, support=support, want_logprobs=True))
    engine.close_session(session)
    return verdict.choice


def coupled(engine, run_jobs, context, tree=TREE, params=WARM):
    return ask(engine, run_jobs, context, tree, None, params)


def rows_of(support: Support, values) -> list[dict[int, float]]:
    """For each row, what each of its tokens has."""
    ends = np.cumsum(support.row_lengths)
    return [
        dict(zip(support.token_ids[end - length : end], values[end - length : end], strict=True))
        for length, end in zip(support.row_lengths, ends, strict=True)
    ]


def test_the_law_is_that_of_the_parameters_on_the_support_and_outside() -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    params = SamplingParams(temperature=0.7, top_k=20, top_p=0.9, seed=3)
    support = Support((3, 0, 50, 2), (1, 2, 3, *range(50), 8, 9))
    gumbel = torch.from_numpy(GumbelRows(3, 50).rows([7, 8, 8, 9]))
    weighed = weigh(logits, params, gumbel, support)
    law = truncated(logits / 0.7, params).softmax(-1)
    expected = torch.cat([law[0, 1:4], law[2], law[3, 8:10]])
    torch.testing.assert_close(weighed["support_probs"], expected)
    torch.testing.assert_close(
        weighed["outside_probs"][[0, 1, 3]], 1 - torch.stack([law[0, 1:4].sum(), torch.tensor(0.0), law[3, 8:10].sum()])
    )
    assert weighed["outside_probs"][2] == 0


def test_the_token_from_outside_is_the_coupled_choice_wherever_that_is_outside(
    llama, make_engine, run_jobs, make_ids
) -> None:
    engine = make_engine(llama)
    num_outside = 0
    for seed in range(20):
        context, params = make_ids(seed, 5), SamplingParams(temperature=0.9, seed=seed)
        chosen = coupled(engine, run_jobs, context, params=params).token_ids
        first = ask(engine, run_jobs, context, params=params)
        for row, (inside, token_id) in enumerate(zip(rows_of(SUPPORT, first.support_probs), chosen, strict=True)):
            if token_id not in inside:
                assert first.token_ids[row] == token_id
                num_outside += 1
            else:
                assert first.token_ids[row] not in inside
    assert num_outside > 40


def test_without_a_support_it_is_the_coupled_choice(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama)
    for tree in (EMPTY_TREE, TREE):
        choice = ask(engine, run_jobs, [8, 9, 10], tree, Support.empty(tree.num_nodes + 1))
        plain = coupled(engine, run_jobs, [8, 9, 10], tree)
        assert (choice.token_ids, choice.logprobs) == (plain.token_ids, plain.logprobs)
        assert choice.outside_probs == pytest.approx([1] * (tree.num_nodes + 1))


def test_nothing_outside_has_a_probability_of_exactly_0(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama)
    everything = Support((len(ALL),), ALL)
    assert ask(engine, run_jobs, [5, 6], EMPTY_TREE, everything).outside_probs == (0,)
    allowed = SamplingParams(seed=1, allowed_token_ids=(4, 5, 6))
    choice = ask(engine, run_jobs, [5, 6], EMPTY_TREE, Support((4,), (6, 9, 5, 4)), allowed)
    assert choice.outside_probs == (0,)
    assert choice.support_probs[1] == 0
    assert sum(choice.support_probs) == pytest.approx(1)


def test_logprobs_are_the_models_own(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama)
    sharp = SamplingParams(temperature=0.2, top_k=3, seed=1)
    everything = Support((len(ALL),), ALL)
    cold, plain = (
        ask(engine, run_jobs, [5, 6], EMPTY_TREE, everything, params) for params in (sharp, SamplingParams())
    )
    assert cold.support_logprobs == plain.support_logprobs
    np.testing.assert_allclose(np.exp(plain.support_logprobs), plain.support_probs, rtol=1e-4)
    top = ask(engine, run_jobs, [5, 6], EMPTY_TREE, everything, sharp, num_top_logprobs=2)
    best = sorted(ALL, key=lambda token_id: -plain.support_logprobs[token_id])[:2]
    assert list(top.top_token_ids) == best


def test_neither_chunks_nor_lost_pages_nor_company_change_a_law(llama, make_engine, run_jobs, make_ids) -> None:
    context = make_ids(3, 40)
    alone = ask(make_engine(llama), run_jobs, context)
    chunked = ask(make_engine(llama, prefill_chunk_tokens=7, max_pass_tokens=60), run_jobs, context)
    engine = make_engine(llama)
    session, other = (engine.new_session(Chooser(WARM, 272)) for _ in range(2))
    run_jobs(engine, VerifyJob(session, context[:30], TREE, support=SUPPORT))
    session.suspend()
    jobs = [
        VerifyJob(session, context[30:], TREE, support=SUPPORT, want_logprobs=True),
        VerifyJob(other, make_ids(4, 9), TREE),
    ]
    (suspended, company) = run_jobs(engine, *jobs)
    assert company.choice.token_ids == coupled(make_engine(llama), run_jobs, make_ids(4, 9)).token_ids
    for choice in (chunked, suspended.choice):
        assert choice.token_ids == alone.token_ids
        np.testing.assert_allclose(choice.support_probs, alone.support_probs, rtol=1e-3)
        np.testing.assert_allclose(choice.outside_probs, alone.outside_probs, rtol=1e-3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=any_params.filter(lambda params: not params.is_greedy), data=st.data())
def test_the_law_of_a_node_is_that_of_its_path_under_any_parameters(
    params, data, llama, make_engine, run_jobs, make_tree
) -> None:
    """With the whole vocabulary for a support, a reply is the law itself: asked node by node, and all at once."""
    compiler = GrammarCompiler(llama.vocabulary, llama.tokenizer_json) if params.grammar else None
    tree, context = make_tree(data.draw(st.integers(0, 99)), 5), [40, 41]
    engine = make_engine(llama, num_pages=64)
    together = Support((len(ALL),) * 6, ALL * 6)
    choice = ask(engine, run_jobs, context, tree, together, params, chooser=chooser_of(llama, compiler, params, 2))
    laws = rows_of(together, choice.support_probs)
    is_reached = [True]
    for node in range(tree.num_nodes):
        parent, token_id = tree.parents[node], tree.token_ids[node]
        is_reached.append(is_reached[parent + 1] and laws[parent + 1][token_id] > 0 and token_id != EOS)
        if not is_reached[-1]:
            continue  # no walk comes here
        path = [tree.token_ids[ancestor] for ancestor in tree.ancestors(node)]
        alone = ask(
            engine,
            run_jobs,
            [*context, *path],
            EMPTY_TREE,
            Support((len(ALL),), ALL),
            params,
            chooser=chooser_of(llama, compiler, params, 2),
        )
        np.testing.assert_allclose(list(laws[node + 1].values()), alone.support_probs, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("support", "error", "words"),
    [
        (Support((1, 1, 1), (1, 2, 3)), BadParameter, "has 3 rows; a tree of 3 nodes takes 4"),
        (Support((1, 1, 1, 1), (1, 2, 3)), BadParameter, "has 3 tokens; its row_lengths add up to 4"),
        (Support((273, 0, 0, 0), tuple(range(273))), BadParameter, "row of 273 tokens; the model has 272"),
        (Support((1, 1, 1, 1), (1, 2, 272, 3)), TokenOutOfVocabulary, "token 272; the model has 272 ids"),
        (Support((1, 3, 0, 0), (5, 5, 8, 5)), BadParameter, "token 5 twice in row 1"),
    ],
    ids=["rows", "lengths", "longer than the vocabulary", "unknown token", "twice"],
)
def test_a_support_that_cannot_be_answered_is_refused_and_costs_nothing(
    support, error, words, llama, make_engine, run_jobs
) -> None:
    engine = make_engine(llama)
    session = engine.new_session(Chooser(WARM, 272))
    with pytest.raises(error, match=words):
        run_jobs(engine, VerifyJob(session, [1, 2], TREE, support=support))
    assert not session.token_ids
    engine.close_session(session)
    engine.check_integrity()


def test_one_pass_weighs_for_some_and_chooses_for_others() -> None:
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    questions = [
        Question(Chooser(SamplingParams(seed=1), 30), [0], EMPTY_TREE),
        Question(Chooser(SamplingParams(seed=2), 30), [0], DraftTree((1,), (-1,)), support=Support((2, 1), (1, 4, 2))),
        Question(Chooser(SamplingParams(temperature=0), 30), [0], DraftTree((1,), (-1,))),
    ]
    choices = choose_all(logits, questions)
    assert [len(choice.token_ids) for choice in choices] == [1, 2, 2]
    assert [len(choice.support_probs) for choice in choices] == [0, 3, 0]
    assert choices[2].token_ids == tuple(logits[3:].argmax(-1).tolist())
