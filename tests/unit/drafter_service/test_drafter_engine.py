import random
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import MambaForCausalLM

from drafter_service.engine import DrafterEngine, DraftJob
from drafter_service.session import Session
from drafter_service.vocabulary.bridge import Speller, VocabularyBridge
from draftpool.choice import coupled_scores, gumbel_rows
from draftpool.errors import BadParameter, DraftpoolError, EmptyContext, NoCapacity, TokenOutOfVocabulary
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, NO_DRAFT, ROOT, DraftTree, TreeShape, chain
from draftpool.vocabulary import Vocabulary

EngineMaker = Callable[..., DrafterEngine]
Drafting = Callable[[DrafterEngine, Session, Sequence[int], TreeShape], DraftTree]
Running = Callable[[DrafterEngine, Sequence[DraftJob]], list[DraftTree]]

CONTEXT = [72, 80, 11, 250, 33, 9]
SHAPE = TreeShape((3, 2, 1, 2))
GREEDY = SamplingParams(temperature=0)


def naive_children(
    reference: MambaForCausalLM, bridge: VocabularyBridge, params: SamplingParams, path: list[int], num_children: int
) -> list[int]:
    """The proposals after one path of target tokens, by transformers and from the definition."""
    drafter_ids = bridge.context_ids(path[: len(CONTEXT)])
    for token_id in path[len(CONTEXT) :]:
        drafter_ids += bridge.continuation_ids(token_id)
    with torch.no_grad():
        logits = reference(torch.tensor([drafter_ids])).logits[0, -1]
    by_target = torch.full((1, len(bridge.target)), -torch.inf)
    for drafter_id in range(len(logits)):
        for target_id in bridge.shared.spelling(drafter_id):
            by_target[0, target_id] = logits[drafter_id]
    noise = None if params.is_greedy else gumbel_rows(GumbelRows(params.seed, len(bridge.target)), [len(path)])
    best = coupled_scores(by_target, params, noise)[0].topk(num_children)
    return best.indices.tolist()


@pytest.mark.parametrize("bridge_name", ["same_bridge", "other_bridge"])
def test_nodes_are_the_largest_coupled_scores_after_their_path(
    make_engine: EngineMaker,
    draft: Drafting,
    reference: MambaForCausalLM,
    request: pytest.FixtureRequest,
    bridge_name: str,
    params: SamplingParams,
) -> None:
    bridge = request.getfixturevalue(bridge_name)
    tree = draft(make_engine(), Session(bridge, params, is_plain=True), CONTEXT, SHAPE)
    assert tree.num_nodes == SHAPE.num_nodes
    assert list(tree.depths) == sorted(tree.depths)
    for parent in [ROOT, *range(tree.num_nodes)]:
        depth = 0 if parent == ROOT else tree.depths[parent]
        children = [tree.token_ids[node] for node in range(tree.num_nodes) if tree.parents[node] == parent]
        if depth == SHAPE.depth:
            assert children == []
            continue
        path = CONTEXT + ([] if parent == ROOT else [tree.token_ids[node] for node in tree.ancestors(parent)])
        assert children == naive_children(reference, bridge, params, path, SHAPE.branching[depth])


def test_sessions_drafted_together_get_the_trees_they_get_alone(
    make_engine: EngineMaker,
    draft: Drafting,
    run_jobs: Running,
    same_bridge: VocabularyBridge,
    other_bridge: VocabularyBridge,
) -> None:
    requests = [
        (same_bridge, GREEDY, CONTEXT, SHAPE),
        (other_bridge, SamplingParams(temperature=1.0, seed=5), CONTEXT[::-1], chain(5)),
        (same_bridge, SamplingParams(temperature=0.7, seed=9), [4] * 90, TreeShape((4, 3))),
        (other_bridge, GREEDY, [8], NO_DRAFT),
    ]
    engine = make_engine(num_slots=256, prefill_chunk_tokens=32)
    jobs = [DraftJob(Session(bridge, params), context, shape) for bridge, params, context, shape in requests]
    together = run_jobs(engine, jobs)
    alone = [
        draft(make_engine(), Session(bridge, params), context, shape) for bridge, params, context, shape in requests
    ]
    assert together == alone


@pytest.mark.parametrize("seed", range(12))
def test_any_history_leaves_the_state_of_a_fresh_prefill(
    make_engine: EngineMaker,
    draft: Drafting,
    same_bridge: VocabularyBridge,
    params: SamplingParams,
    seed: int,
) -> None:
    choose = random.Random(seed)
    engine = make_engine()
    session = Session(same_bridge, params)
    text = [choose.randrange(320) for _ in range(choose.randint(1, 100))]
    tree = draft(engine, session, text, SHAPE)
    for _ in range(8):
        committed = _random_commit(choose, tree)
        text = text + committed
        shape = choose.choice([SHAPE, chain(3), TreeShape((2, 2)), NO_DRAFT])
        tree = draft(engine, session, committed, shape)
        fresh_engine = make_engine()
        fresh = Session(same_bridge, params)
        assert tree == draft(fresh_engine, fresh, text, shape)
        torch.testing.assert_close(
            engine._model.state(session.root_slot), fresh_engine._model.state(fresh.root_slot), atol=1e-4, rtol=1e-4
        )
        engine.pool.check_integrity(session.held_slots)
    engine.close_session(session)
    assert engine.pool.num_used == 0


def _random_commit(choose: random.Random, tree: DraftTree) -> list[int]:
    """Along the tree for a while, then perhaps off it; now and then nothing."""
    path = tree.ancestors(choose.randrange(tree.num_nodes)) if tree.num_nodes else ()
    accepted = [tree.token_ids[node] for node in path[: choose.randint(0, len(path))]]
    return accepted + [choose.randrange(320) for _ in range(choose.choice([0, 1, 1, 1, 3, 70]))]


def test_an_accepted_path_is_selected_and_only_the_bonus_token_is_computed(
    make_engine: EngineMaker, draft: Drafting, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine()
    session = Session(same_bridge, GREEDY)
    tree = draft(engine, session, CONTEXT, chain(4))
    session.advance([*tree.token_ids[:3], 17], engine.pool)
    assert session.pending_ids == [17]


def test_an_accepted_leaf_was_never_stepped_and_is_computed_with_the_bonus_token(
    make_engine: EngineMaker, draft: Drafting, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine()
    session = Session(same_bridge, GREEDY)
    tree = draft(engine, session, CONTEXT, chain(4))
    session.advance([*tree.token_ids, 17], engine.pool)
    assert session.pending_ids == [tree.token_ids[3], 17]


def test_a_tree_takes_as_many_batched_steps_as_it_is_deep(
    make_engine: EngineMaker, run_jobs: Running, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine(num_slots=256)
    shapes = (SHAPE, chain(2), SHAPE)
    jobs = [DraftJob(Session(same_bridge, GREEDY), [3], shape) for shape in shapes]
    run_jobs(engine, jobs)
    assert [job.future.result().num_steps for job in jobs] == [shape.depth for shape in shapes]


def test_a_session_that_comes_later_joins_the_others_at_their_next_level(
    make_engine: EngineMaker, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine(num_slots=256)
    early, late = (DraftJob(Session(same_bridge, GREEDY), [3], chain(4)) for _ in range(2))
    engine.turn([early])
    for _ in range(3):
        engine.turn([early, late])
    assert not early.is_open
    engine.turn([late])
    assert not late.is_open


def test_a_short_pool_gives_shorter_trees_and_never_an_error(
    make_engine: EngineMaker, draft: Drafting, same_bridge: VocabularyBridge
) -> None:
    whole = draft(make_engine(), Session(same_bridge, GREEDY), CONTEXT, SHAPE)
    for num_slots, num_levels in ((2, 1), (4, 1), (5, 2), (10, 2), (11, 3), (17, 4)):
        engine = make_engine(num_slots=num_slots, max_sessions=2)
        session = Session(same_bridge, GREEDY)
        cut = draft(engine, session, CONTEXT, SHAPE)
        num_nodes = sum(SHAPE.widths[:num_levels])
        assert cut == DraftTree(whole.token_ids[:num_nodes], whole.parents[:num_nodes])
        engine.pool.check_integrity(session.held_slots)
        draft(engine, Session(same_bridge, GREEDY), CONTEXT, SHAPE)  # there is always room to open the second


def test_a_long_prompt_lets_others_draft_between_its_chunks(
    make_engine: EngineMaker, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine(prefill_chunk_tokens=10)
    long, short = (DraftJob(Session(same_bridge, GREEDY), [5] * length, chain(2)) for length in (100, 1))
    for _ in range(2):
        engine.turn([long, short])
    assert long.is_open
    assert short.future.result().tree.num_nodes == 2


@pytest.mark.parametrize(
    ("committed", "shape", "error"),
    [
        ([], SHAPE, EmptyContext),
        ([320], SHAPE, TokenOutOfVocabulary),
        ([-1], SHAPE, TokenOutOfVocabulary),
        (CONTEXT, TreeShape((65,)), BadParameter),
        (CONTEXT, TreeShape((2,) * 10_000), BadParameter),
    ],
)
def test_a_bad_job_fails_alone_and_costs_no_slot(
    make_engine: EngineMaker,
    run_until: Callable[[DrafterEngine, Sequence[DraftJob]], None],
    same_bridge: VocabularyBridge,
    committed: list[int],
    shape: TreeShape,
    error: type[DraftpoolError],
) -> None:
    engine = make_engine()
    bad = DraftJob(Session(same_bridge, GREEDY), committed, shape)
    good = DraftJob(Session(same_bridge, GREEDY), CONTEXT, SHAPE)
    run_until(engine, [bad, good])
    with pytest.raises(error):
        bad.future.result()
    assert good.future.result().tree.num_nodes == SHAPE.num_nodes
    assert engine.pool.num_sessions == 1


def test_a_full_drafter_refuses_sessions_with_a_hint_and_takes_them_again_later(
    make_engine: EngineMaker, draft: Drafting, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine(max_sessions=1)
    first = Session(same_bridge, GREEDY)
    draft(engine, first, CONTEXT, SHAPE)
    with pytest.raises(NoCapacity) as refusal:
        draft(engine, Session(same_bridge, GREEDY), CONTEXT, SHAPE)
    assert refusal.value.retry_after_s
    engine.close_session(first)
    engine.close_session(first)
    assert engine.pool.num_used == 0
    assert draft(engine, Session(same_bridge, GREEDY), CONTEXT, SHAPE).num_nodes == SHAPE.num_nodes


def test_no_draft_gives_the_empty_tree_and_a_tree_may_follow_without_new_tokens(
    make_engine: EngineMaker, draft: Drafting, same_bridge: VocabularyBridge
) -> None:
    engine = make_engine()
    session = Session(same_bridge, GREEDY)
    assert draft(engine, session, CONTEXT, NO_DRAFT) == EMPTY_TREE
    tree = draft(engine, session, [], SHAPE)
    assert tree == draft(make_engine(), Session(same_bridge, GREEDY), CONTEXT, SHAPE)
    assert tree == draft(engine, session, [], SHAPE)


def test_special_tokens_take_a_position_but_leave_no_trace_in_the_state(
    make_engine: EngineMaker,
    draft: Drafting,
    speller: Speller,
    same_bridge: VocabularyBridge,
    params: SamplingParams,
) -> None:
    special_id = 320
    target = Vocabulary((*speller.vocabulary.token_bytes, b""), eos_token_ids=(0,))
    bridge = VocabularyBridge(speller, target)
    engine = make_engine()
    session = Session(bridge, params)
    tree = draft(engine, session, CONTEXT, SHAPE)
    accepted = tree.token_ids[0]
    for committed, text in (
        ([special_id], CONTEXT),
        ([], CONTEXT),
        ([accepted, special_id], [*CONTEXT, accepted]),
        ([special_id, 9, special_id], [*CONTEXT, accepted, 9]),
    ):
        draft(engine, session, committed, SHAPE)
        fresh_engine = make_engine()
        fresh = Session(same_bridge, params)
        draft(fresh_engine, fresh, text, SHAPE)
        torch.testing.assert_close(
            engine._model.state(session.root_slot), fresh_engine._model.state(fresh.root_slot), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(session.root_logits, fresh.root_logits, atol=1e-4, rtol=1e-4)
    assert session.num_committed == len(CONTEXT) + 6


def test_one_drafter_serves_targets_with_other_vocabularies_at_once(
    make_engine: EngineMaker, run_jobs: Running, same_bridge: VocabularyBridge, other_bridge: VocabularyBridge
) -> None:
    engine = make_engine()
    jobs = [DraftJob(Session(bridge, GREEDY), CONTEXT, SHAPE) for bridge in (same_bridge, other_bridge)]
    same_tree, other_tree = run_jobs(engine, jobs)
    assert same_tree.num_nodes == SHAPE.num_nodes
    assert 0 < other_tree.num_nodes <= SHAPE.num_nodes
    assert max(other_tree.token_ids) < len(other_bridge.target)
