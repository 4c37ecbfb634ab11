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
from verifier_service.engine import VerifyJob
from verifier_service.session import Session

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, seed=11)
WILD = SamplingParams(temperature=1.5, seed=2**63 + 5)


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
    session = Session(params, 272)
    emitted: list[int] = []
    committed = list(context)
    while len(emitted) < num_tokens:
        tree = make_draft(emitted) if make_draft else EMPTY_TREE
        (verdict,) = run_jobs(engine, VerifyJob(session, committed, tree))
        committed = accepted(tree, verdict.chosen_token_ids)
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
    engine = make_engine(llama)
    params = data.draw(st.sampled_from([GREEDY, WARM, WILD]))
    session, token_ids, tree = Session(params, llama.vocab_size), [], EMPTY_TREE
    for step in range(data.draw(st.integers(1, 5))):
        on_tree = tree.ancestors(data.draw(st.integers(0, tree.num_nodes - 1))) if tree.num_nodes else ()
        path = [tree.token_ids[node] for node in on_tree][: data.draw(st.integers(0, 6))]
        off_tree = data.draw(st.lists(st.integers(0, 271), min_size=0 if path else 1, max_size=5))
        tree = make_tree(data.draw(st.integers(0, 1000)), data.draw(st.integers(0, 12)))
        token_ids += path + off_tree
        fresh = Session(params, llama.vocab_size)
        jobs = [VerifyJob(session, path + off_tree, tree), VerifyJob(fresh, list(token_ids), tree)]
        kept, anew = run_jobs(engine, *jobs)
        assert kept.chosen_token_ids == anew.chosen_token_ids, f"step {step}"
        engine.check_integrity()
        engine.close_session(fresh)
    engine.close_session(session)
    assert engine.num_used_slots == 0


def test_the_noise_of_a_choice_is_that_of_its_place_in_the_text(
    target, make_engine, run_jobs, make_ids, make_tree
) -> None:
    """As `draftpool.noise` says: the token chosen after n tokens has position n. A drafter counts on it."""
    context, tree = make_ids(12, 9), make_tree(12, 8)
    (verdict,) = run_jobs(make_engine(target), VerifyJob(Session(WILD, 272), context, tree))
    noise = GumbelRows(WILD.seed, 272)
    for node, chosen in enumerate(verdict.chosen_token_ids, start=-1):
        text = [*context, *(tree.token_ids[ancestor] for ancestor in tree.ancestors(node))]
        scores = coupled_scores(own_logits(target, text), WILD, gumbel_rows(noise, [len(text)]))
        assert scores.argmax().item() == chosen


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_chunked_prefill_equals_whole_prefill(target, chunk, make_engine, run_jobs, make_ids, make_tree) -> None:
    context, tree = make_ids(8, 40), make_tree(8, 10)
    results = []
    for engine in (make_engine(target), make_engine(target, prefill_chunk_tokens=chunk)):
        session = Session(WARM, target.vocab_size)
        (verdict,) = run_jobs(engine, VerifyJob(session, context, tree, want_logprobs=True))
        results.append(verdict)
    whole, chunked = results
    assert (whole.num_passes, chunked.num_passes) == (1, -(-39 // chunk))
    assert whole.num_computed_tokens == chunked.num_computed_tokens == 50
    assert whole.chosen_token_ids == chunked.chosen_token_ids
    assert whole.chosen_logprobs == pytest.approx(chunked.chosen_logprobs, abs=1e-4)


def test_a_batch_chooses_as_each_session_alone(llama, make_engine, run_jobs, make_ids, make_tree) -> None:
    cases = [(GREEDY, 30, 6), (WARM, 3, 0), (WILD, 12, 20), (WARM, 1, 8)]

    def jobs():
        return [
            VerifyJob(Session(params, 272), make_ids(index, length), make_tree(index, num_nodes))
            for index, (params, length, num_nodes) in enumerate(cases)
        ]

    together = run_jobs(make_engine(llama, prefill_chunk_tokens=8, max_pass_tokens=60), *jobs())
    alone = [run_jobs(make_engine(llama), job)[0] for job in jobs()]
    assert [verdict.chosen_token_ids for verdict in together] == [verdict.chosen_token_ids for verdict in alone]


def test_an_accepted_path_is_not_computed_again(llama, make_engine, run_jobs, make_ids) -> None:
    engine, session = make_engine(llama), Session(GREEDY, 272)
    tree = DraftTree((1, 2, 3, 4), (-1, 0, 1, 0))
    run_jobs(engine, VerifyJob(session, make_ids(0, 10), tree))
    (verdict,) = run_jobs(engine, VerifyJob(session, [1, 2, 3, 50]))
    assert verdict.num_computed_tokens == 1
    assert engine.num_used_slots == 14


def test_log_probabilities_are_those_of_the_model_itself(target, make_engine, run_jobs, make_ids) -> None:
    context = make_ids(9, 5)
    job = VerifyJob(Session(WARM, 272), context, want_logprobs=True)
    (verdict,) = run_jobs(make_engine(target), job)
    expected = own_logits(target, context).log_softmax(-1)[0, verdict.chosen_token_ids[0]].item()
    assert verdict.chosen_logprobs == pytest.approx((expected,), abs=1e-4)


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
    good = [VerifyJob(Session(WARM, 272), make_ids(index, 6), make_tree(index, 4)) for index in range(2)]
    bad = VerifyJob(Session(WARM, 272), committed, tree)
    engine.turn([good[0], bad, good[1]])
    with pytest.raises(error, match=message):
        bad.future.result()
    again = [VerifyJob(Session(WARM, 272), make_ids(index, 6), make_tree(index, 4)) for index in range(2)]
    expected = run_jobs(make_engine(llama), *again)
    assert [job.future.result().chosen_token_ids for job in good] == [verdict.chosen_token_ids for verdict in expected]
    assert engine.num_sessions == 2
    engine.check_integrity()


def test_a_refused_message_leaves_its_session_as_it_was(llama, make_engine, run_jobs, make_ids) -> None:
    engine, session = make_engine(llama), Session(GREEDY, 272)
    run_jobs(engine, VerifyJob(session, make_ids(0, 4)))
    for committed in ([], [300]):
        with pytest.raises(errors.InvalidRequest):
            run_jobs(engine, VerifyJob(session, committed))
    assert session.token_ids == make_ids(0, 4)


def test_a_full_cache_refuses_one_and_serves_the_others(llama, make_engine, run_jobs, make_ids) -> None:
    engine = make_engine(llama, num_slots=60, max_tree_nodes=8)
    sessions = [Session(GREEDY, 272) for _ in range(3)]
    jobs = [VerifyJob(session, make_ids(0, length)) for session, length in zip(sessions, (40, 30, 15), strict=True)]
    engine.turn(jobs)
    with pytest.raises(errors.NoCapacity, match="20 of 60 are free"):
        jobs[1].future.result()
    assert jobs[2].future.result()
    engine.close_session(sessions[0])
    assert run_jobs(engine, VerifyJob(sessions[1], make_ids(0, 30)))
    engine.check_integrity()


def test_sessions_beyond_the_limit_are_refused_until_one_closes(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama, max_sessions=1)
    first, second = Session(GREEDY, 272), Session(GREEDY, 272)
    run_jobs(engine, VerifyJob(first, [1]))
    with pytest.raises(errors.NoCapacity, match="takes 1 sessions") as refused:
        run_jobs(engine, VerifyJob(second, [1]))
    assert refused.value.retry_after_s
    engine.close_session(first)
    assert run_jobs(engine, VerifyJob(second, [1]))


def test_closing_a_session_frees_it_even_in_the_middle_of_its_prefill(llama, make_engine, make_ids) -> None:
    engine, session = make_engine(llama, prefill_chunk_tokens=4), Session(GREEDY, 272)
    job = VerifyJob(session, make_ids(0, 30))
    engine.turn([job])
    assert job.is_open
    assert engine.num_used_slots == 30
    engine.close_session(session)
    engine.close_session(session)
    assert engine.num_used_slots == engine.num_sessions == 0
    engine.check_integrity()
