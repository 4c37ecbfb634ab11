"""Growth without a model: rows are written by hand, or drawn by hypothesis."""

from collections.abc import Sequence
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drafter_service.growth import SHARPNESS, Candidate, Row, TreeGrowth
from drafter_service.vocabulary.lexicon import Lexicon, spelling_of
from draftpool.tree import EMPTY_TREE, NO_DRAFT, ROOT, DraftTree, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.vocabulary import Vocabulary

DRAFTER = Vocabulary((b"a", b"b", b"ab", b"num", b"ber", b"c", b"numc"), eos_token_ids=())
TARGET = Vocabulary((b"a", b"b", b"number", b"num", b"c"), eos_token_ids=())
A, B, AB, NUM, BER, C, NUMC = range(7)
TARGET_A, TARGET_B, TARGET_NUMBER, TARGET_NUM, TARGET_C = range(5)

SAME = Lexicon(DRAFTER, DRAFTER, [(token_id,) for token_id in range(7)], {}, is_same=True)
SPELLED = Lexicon(
    DRAFTER,
    TARGET,
    [
        spelling_of(text, {text: token_id for token_id, text in enumerate(TARGET.token_bytes)}, 6)
        for text in DRAFTER.token_bytes
    ],
    {b"number": TARGET_NUMBER},
    is_same=False,
)


def row(probs: dict[int, float]) -> Row:
    """What a drafter says that gives tokens these probabilities, greedily."""
    best = sorted(probs.items(), key=lambda entry: -entry[1])
    total = log(sum(prob ** (1 / SHARPNESS) for prob in probs.values()))
    likely = [(token_id, log(prob)) for token_id, prob in best]
    return Row([Candidate(token_id, log(prob), log(prob)) for token_id, prob in best], total, likely)


def no_noise(_level: int, _token_id: int) -> float:
    return 0.0


def grown(policy: TreePolicy, lexicon: Lexicon, rows: dict[tuple[int, ...], dict[int, float]]) -> TreeGrowth:
    """Grow by rows that stand under what the drafter has read; a text without one is followed by `c` alone."""
    growth = TreeGrowth(policy, lexicon, 0, no_noise)
    while not growth.is_done:
        for node in [growth.root] if growth.waits_for_root else list(growth.frontier):
            node.slot = 0
            growth.add_row(node, row(rows.get(tuple(growth.drafter_ids(node)), {C: 1.0})))
        growth.num_steps += 1
    return growth


def paths(growth: TreeGrowth) -> set[tuple[int, ...]]:
    tree = growth.tree()
    return {tuple(tree.token_ids[above] for above in tree.ancestors(node)) for node in range(tree.num_nodes)}


def test_no_draft_is_the_empty_tree_at_once() -> None:
    growth = TreeGrowth(NO_DRAFT, SAME, 0, no_noise)
    assert growth.is_done
    assert growth.tree() == EMPTY_TREE


def test_a_shape_gives_every_node_its_best_children() -> None:
    growth = grown(TreeShape((2, 1)), SAME, {(): {A: 0.5, B: 0.3, C: 0.2}, (A,): {B: 0.9, C: 0.1}})
    assert growth.tree() == DraftTree((A, B, B, C), (ROOT, ROOT, 0, 1))


def test_a_budget_goes_where_paths_are_likely() -> None:
    rows = {(): {A: 0.9, B: 0.1}, (A,): {A: 0.9, B: 0.1}, (A, A): {A: 0.9, B: 0.1}}
    assert paths(grown(BestFirst(3, 8), SAME, rows)) == {(A,), (A, A), (A, A, A)}
    rows = {(): {A: 0.4, B: 0.35, C: 0.25}}
    assert paths(grown(BestFirst(3, 1), SAME, rows)) == {(A,), (B,), (C,)}


def test_a_path_that_is_hardly_reached_is_not_stepped() -> None:
    rare = 0.01
    growth = grown(BestFirst(10, 5), SAME, {(): {A: 1 - rare, B: rare}})
    assert all(node.slot is None for node in growth.path([B]))


PROBS = st.dictionaries(st.sampled_from([A, B, AB, NUM, BER, C, NUMC]), st.floats(0.01, 1.0), min_size=1)


@given(st.lists(PROBS, min_size=1, max_size=8), st.integers(1, 20), st.integers(1, 6), st.booleans())
def test_a_best_first_tree_keeps_its_budget_and_hangs_together(
    rows: Sequence[dict[int, float]], max_nodes: int, max_depth: int, is_same: bool
) -> None:
    policy = BestFirst(max_nodes, max_depth)
    growth = TreeGrowth(policy, SAME if is_same else SPELLED, 0, no_noise)
    number = 0
    while not growth.is_done:
        for node in [growth.root] if growth.waits_for_root else list(growth.frontier):
            node.slot = 0
            growth.add_row(node, row(_normal(rows[number % len(rows)])))
            number += 1
        growth.num_steps += 1
    tree = growth.tree()
    assert tree.num_nodes <= max_nodes
    assert tree.depth <= policy.depth


def _normal(probs: dict[int, float]) -> dict[int, float]:
    total = sum(probs.values())
    return {token_id: prob / total for token_id, prob in probs.items()}


def test_a_drafter_token_that_the_target_spells_is_drafted_as_a_chain() -> None:
    growth = grown(chain(3), SPELLED, {(): {AB: 0.8, C: 0.2}, (AB,): {C: 1.0}})
    assert paths(growth) == {(TARGET_A,), (TARGET_A, TARGET_B), (TARGET_A, TARGET_B, TARGET_C)}
    assert growth.drafter_ids(growth.path([TARGET_A, TARGET_B])[-1]) == [AB]


def test_tokens_that_begin_alike_share_a_node_and_speak_for_it_together() -> None:
    growth = grown(TreeShape((1,)), SPELLED, {(): {AB: 0.3, A: 0.3, C: 0.4}})
    assert paths(growth) == {(TARGET_A,)}
    [node] = growth.path([TARGET_A])
    assert exp(node.log_value) > 0.5


def test_a_target_token_that_the_drafter_spells_takes_the_place_of_its_beginning() -> None:
    growth = grown(chain(2), SPELLED, {(): {NUM: 0.9, C: 0.1}, (NUM,): {BER: 0.95, C: 0.05}, (NUM, BER): {C: 1.0}})
    assert paths(growth) == {(TARGET_NUMBER,), (TARGET_NUMBER, TARGET_C)}
    assert growth.drafter_ids(growth.path([TARGET_NUMBER])[-1]) == [NUM, BER]


def test_the_beginning_stays_where_the_rest_is_unlikely() -> None:
    growth = grown(chain(1), SPELLED, {(): {NUM: 0.9, C: 0.1}, (NUM,): {BER: 0.1, C: 0.9}})
    assert paths(growth) == {(TARGET_NUM,)}


def test_what_hung_on_a_beginning_that_lost_its_share_does_not_stay_without_it() -> None:
    unsure = {A: 0.4, B: 0.3, C: 0.3}
    rows = {(): {NUM: 0.5, NUMC: 0.45, C: 0.05}, (NUM,): {BER: 0.98, A: 0.02}, (NUM, BER): unsure}
    tree = grown(BestFirst(2, 3), SPELLED, rows).tree()
    assert tree.num_nodes == 2
    assert TARGET_NUMBER in tree.token_ids


@pytest.mark.parametrize("max_depth", [1, 2])
def test_a_spelling_is_cut_where_the_tree_may_go_no_deeper(max_depth: int) -> None:
    growth = grown(BestFirst(8, max_depth), SPELLED, {(): {AB: 0.8, C: 0.2}})
    assert growth.tree().depth == max_depth
