import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftpool import errors
from draftpool.choice import coupled_scores, gumbel_rows
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.attention import TREE_ATTENTION
from verifier_service.choosing import Chooser
from verifier_service.job import VerifyJob

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, seed=11)
WILD = SamplingParams(temperature=1.5, seed=2**63 + 5)


def open_session(engine, params=GREEDY):
    return engine.new_session(Chooser(params, 272))


def accepted(tree: DraftTree, chosen) -> list[int]:
    """The tokens that a verdict emits: the accepted path, then the bonus token."""
    token_ids, row = [], 0
    while True:
        token_ids.append(chosen[row])
        node = tree.child(row - 1, chosen[row])
        if node is None:
            return token_ids
        row = node + 1


def tree_with_hits(continuation, seed, make_tree) -> DraftTree:
    """A random tree, with the first tokens of the true continuation as one of its paths."""
    tree = make_tree(seed, 9)
    token_ids, parents, parent = list(tree.token_ids), list(tree.parents), -1
    for token_id in continuation[: 1 + seed % 4]:
        node = DraftTree(tuple(token_ids), tuple(parents)).child(parent, token_id)
        if node is None:
            node = len(token_ids)
            token_ids.append(token_id)
            parents.append(parent)
        parent = node
    return DraftTree(tuple(token_ids), tuple(parents))


def own_logits(target, token_ids) -> torch.Tensor:
    """(1, V) after the last token, by transformers' plain attention."""
    target.model.set_attn_implementation("eager")
    with torch.inference_mode():
        logits = target.model(input_ids=torch.tensor([token_ids])).logits[:, -1]
    target.model.set_attn_implementation(TREE_ATTENTION)
    return logits.index_fill(1, target.unused_ids, -torch.inf)


def decode(engine, run_jobs, params, context, num_tokens, make_draft=None) -> list[int]:
    """Generate with drafts from `make_draft(tokens so far)`, or without."""
    session = open_session(engine, params)
    emitted: list[int] = []
    committed = list(context)
    while len(emitted) < num_tokens:
        tree = make_draft(emitted) if make_draft else EMPTY_TREE
        (verdict,) = run_jobs(engine, VerifyJob(session, committed, tree))
        committed = accepted(tree, verdict.choice.token_ids)
        emitted += committed
    engine.close_session(session)
    engine.check_integrity()
    return emitted[:num_tokens]


def test_greedy_decoding_with_trees_equals_transformers_generate(
    target, make_engine, run_jobs, make_ids, make_tree
) -> None:
    context = make_ids(5, 10)
    target.model.set_attn_implementation("eager")
    generated = target.model.generate(
        torch.tensor([context]),
        do_sample=False,
        max_new_tokens=40,
        min_new_tokens=40,
        suppress_tokens=target.unused_ids.tolist(),
        pad_token_id=0,
    )[0, 10:].tolist()
    target.model.set_attn_implementation(TREE_ATTENTION)

    def draft(emitted):
        return tree_with_hits(generated[len(emitted) :], len(emitted), make_tree)

    assert decode(make_engine(target), run_jobs, GREEDY, context, 40, draft) == generated


@pytest.mark.parametrize("params", [GREEDY, WARM, WILD], ids=["greedy", "warm", "wild"])
def test_any_tree_gives_the_tokens_that_no_tree_gives(
    target, params, make_engine, run_jobs, make_ids, make_tree
) -> None:
    engine, context = make_engine(target), make_ids(6, 7)
    plain = decode(engine, run_jobs, params, context, 30)
    drafted = decode(
        engine,
        run_jobs,
        params,
        context,
        30,
        lambda emitted: tree_with_hits(plain[len(emitted) :], len(emitted), make_tree),
    )
    assert drafted == plain


@pytest.mark.skipif(not torch.cpu.get_capabilities().get("avx512_bf16"), reason="other CPUs round otherwise")
@pytest.mark.parametrize("params", [GREEDY, WARM], ids=["greedy", "warm"])
def test_trees_change_no_token_in_bfloat16_either(
    params, bfloat16_llama, make_engine, run_jobs, make_ids, make_tree
) -> None:
    engine, context = make_engine(bfloat16_llama), make_ids(6, 20)
    plain = decode(engine, run_jobs, params, context, 90)

    def draft(emitted):
        return tree_with_hits(plain[len(emitted) :], len(emitted), make_tree)

    assert decode(engine, run_jobs, params, context, 90, draft) == plain


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_of_advances_chooses_as_a_fresh_session_of_the_same_tokens(
    data, llama, make_engine, run_jobs, make_tree
) -> None:
    engine, other = make_engine(llama), make_engine(llama)
    params = data.draw(st.sampled_from([GREEDY, WARM, WILD]))
    session, token_ids, tree = open_session(engine, params), [], EMPTY_TREE
    for step in range(data.draw(st.integers(1, 5))):
        on_tree = tree.ancestors(data.draw(st.integers(0, tree.num_nodes - 1))) if tree.num_nodes else ()
        path = [tree.token_ids[node] for node in on_tree][: data.draw(st.integers(0, 6))]
        off_tree = data.draw(st.lists(st.integers(0, 271), min_size=0 if path else 1, max_size=5))
        tree = make_tree(data.draw(st.integers(0, 1000)), data.draw(st.integers(0, 12)))
        token_ids += path + off_tree
        # The fresh ones: a session that may share the first one's pages, and one that can share nothing.
        sharing, fresh = open_session(engine, params), open_session(other, params)
        (kept,) = run_jobs(engine, VerifyJob(session, path + off_tree, tree))
        (shared,) = run_jobs(engine, VerifyJob(sharing, list(token_ids), tree))
        (anew,) = run_jobs(other, VerifyJob(fresh, list(token_ids), tree))
        assert kept.choice.token_ids == shared.choice.token_ids == anew.choice.token_ids, f"step {step}"
        engine.check_integrity()
        engine.close_session(sharing)
        other.close_session(fresh)
    engine.close_session(session)
    assert engine.pool.num_held == 0
    engine.check_integrity()


def test_the_noise_of_a_choice_is_that_of_its_place_in_the_text(
    target, make_engine, run_jobs, make_ids, make_tree
) -> None:
    """As `draftpool.noise` says: the token chosen after n tokens has position n. A drafter counts on it."""
    context, tree = make_ids(12, 9), make_tree(12, 8)
    engine = make_engine(target)
    (verdict,) = run_jobs(engine, VerifyJob(open_session(engine, WILD), context, tree))
    noise = GumbelRows(WILD.seed, 272)
    for node, chosen in enumerate(verdict.choice.token_ids, start=-1):
        text = [*context, *(tree.token_ids[ancestor] for ancestor in tree.ancestors(node))]
        scores = coupled_scores(own_logits(target, text), WILD, gumbel_rows(noise, [len(text)]))
        assert scores.argmax().item() == chosen


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_chunked_prefill_equals_whole_prefill(target, chunk, make_engine, run_jobs, make_ids, make_tree) -> None:
    context, tree = make_ids(8, 40), make_tree(8, 10)
    results = []
    for engine in (make_engine(target), make_engine(target, prefill_chunk_tokens=chunk)):
        session = open_session(engine, WARM)
        (verdict,) = run_jobs(engine, VerifyJob(session, context, tree, want_logprobs=True))
        results.append(verdict)
    whole, chunked = results
    assert (whole.num_passes, chunked.num_passes) == (1, -(-39 // chunk))
    assert whole.num_computed_tokens == chunked.num_computed_tokens == 50
    assert whole.choice.token_ids == chunked.choice.token_ids
    assert whole.choice.logprobs == pytest.approx(chunked.choice.logprobs, abs=1e-4)


def test_a_batch_chooses_as_each_session_alone(llama, make_engine, run_jobs, make_ids, make_tree) -> None:
    cases = [(GREEDY, 30, 6), (WARM, 3, 0), (WILD, 12, 20), (WARM, 1, 8)]

    def jobs(engine):
        return [
            VerifyJob(open_session(engine, params), make_ids(index, length), make_tree(index, num_nodes))
            for index, (params, length, num_nodes) in enumerate(cases)
        ]

    shared, own = make_engine(llama, prefill_chunk_tokens=8, max_pass_tokens=60), make_engine(llama)
    together = run_jobs(shared, *jobs(shared))
    alone = [run_jobs(own, job)[0] for job in jobs(own)]
    assert [verdict.choice.token_ids for verdict in together] == [verdict.choice.token_ids for verdict in alone]


def test_an_accepted_path_is_not_computed_again(llama, make_engine, run_jobs, make_ids) -> None:
    engine = make_engine(llama)
    session = open_session(engine)
    tree = DraftTree((1, 2, 3, 4), (-1, 0, 1, 0))
    run_jobs(engine, VerifyJob(session, make_ids(0, 10), tree))
    (verdict,) = run_jobs(engine, VerifyJob(session, [1, 2, 3, 50]))
    assert verdict.num_computed_tokens == 1
    assert engine.pool.num_held == engine.pool.pages_for(14)


def test_log_probabilities_are_those_of_the_model_itself(target, make_engine, run_jobs, make_ids) -> None:
    context, engine = make_ids(9, 5), make_engine(target)
    (verdict,) = run_jobs(engine, VerifyJob(open_session(engine, WARM), context, want_logprobs=True))
    expected = own_logits(target, context).log_softmax(-1)[0, verdict.choice.token_ids[0]].item()
    assert verdict.choice.logprobs == pytest.approx((expected,), abs=1e-4)


BAD_JOBS = {
    "empty context": ((), EMPTY_TREE, errors.EmptyContext, "at least one token"),
    "unknown token": ((5, 272), EMPTY_TREE, errors.TokenOutOfVocabulary, "272 is not one of the model's 272"),
    "unknown node": ((5,), DraftTree((999,), (-1,)), errors.TokenOutOfVocabulary, "999"),
    "too long": (tuple([1] * 125), DraftTree((1, 1, 1, 1), (-1, 0, 1, 2)), errors.ContextTooLong, "129 tokens"),
    "too large a tree": ((1,), DraftTree(tuple(range(49)), (-1,) * 49), errors.MalformedTree, "49 nodes"),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_a_bad_job_is_refused_and_its_batch_mates_do_not_notice(
    case, llama, make_engine, run_jobs, make_ids, make_tree
) -> None:
    committed, tree, error, message = BAD_JOBS[case]
    engine = make_engine(llama)
    good = [VerifyJob(open_session(engine, WARM), make_ids(index, 6), make_tree(index, 4)) for index in range(2)]
    bad = VerifyJob(open_session(engine, WARM), committed, tree)
    engine.turn([good[0], bad, good[1]])
    with pytest.raises(error, match=message):
        bad.future.result()
    other = make_engine(llama)
    again = [VerifyJob(open_session(other, WARM), make_ids(index, 6), make_tree(index, 4)) for index in range(2)]
    expected = run_jobs(other, *again)
    assert [job.future.result().choice.token_ids for job in good] == [verdict.choice.token_ids for verdict in expected]
    assert engine.num_sessions == 2
    engine.check_integrity()


def test_a_refused_message_leaves_its_session_as_it_was(llama, make_engine, run_jobs, make_ids) -> None:
    engine = make_engine(llama)
    session = open_session(engine)
    run_jobs(engine, VerifyJob(session, make_ids(0, 4)))
    for committed in ([], [300]):
        with pytest.raises(errors.InvalidRequest):
            run_jobs(engine, VerifyJob(session, committed))
    assert session.token_ids == make_ids(0, 4)
