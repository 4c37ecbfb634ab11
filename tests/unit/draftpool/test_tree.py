import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import BadParameter, MalformedTree
from draftpool.tree import EMPTY_TREE, NO_DRAFT, ROOT, DraftTree, TreeShape, chain


def test_a_parent_must_stand_before_its_child() -> None:
    with pytest.raises(MalformedTree, match="node 0 has parent 1"):
        DraftTree((5, 6), (1, ROOT))


def test_a_node_cannot_be_its_own_parent() -> None:
    with pytest.raises(MalformedTree, match="node 1 has parent 1"):
        DraftTree((5, 6), (ROOT, 1))


def test_siblings_must_differ() -> None:
    with pytest.raises(MalformedTree, match="repeats token 5"):
        DraftTree((5, 5), (ROOT, ROOT))


def test_lengths_must_match() -> None:
    with pytest.raises(MalformedTree, match="2 token ids but 1 parents"):
        DraftTree((5, 6), (ROOT,))


def test_the_same_token_may_stand_under_different_parents() -> None:
    assert DraftTree((5, 6, 7, 7), (ROOT, ROOT, 0, 1)).depths == (1, 1, 2, 2)


def test_walk_follows_tokens_until_none_fits() -> None:
    tree = DraftTree((5, 6, 7, 8), (ROOT, ROOT, 1, 2))
    assert tree.walk((6, 7, 9)) == (1, 2)
    assert tree.walk((9,)) == ()
    assert EMPTY_TREE.walk((1, 2)) == ()


@given(st.lists(st.integers(1, 3), max_size=5))
def test_a_shape_counts_its_nodes_level_by_level(branching: list[int]) -> None:
    shape = TreeShape(tuple(branching))
    parents: list[int] = []
    level = [ROOT]
    for factor in branching:
        start = len(parents)
        parents += [parent for parent in level for _ in range(factor)]
        level = list(range(start, len(parents)))
    assert shape.num_nodes == len(parents)
    assert DraftTree(tuple(range(len(parents))), tuple(parents)).depth == shape.depth


def test_the_papers_tree_has_45_nodes() -> None:
    assert TreeShape((3, 2, 2, 1, 1)).num_nodes == 45


def test_a_shape_can_be_kept_within_a_number_of_nodes() -> None:
    shape = TreeShape((3, 2, 2, 1, 1))
    assert [shape.within(limit).branching for limit in (45, 44, 9, 2)] == [(3, 2, 2, 1, 1), (3, 2, 2, 1), (3, 2), ()]


def test_shapes_read_well() -> None:
    assert [str(shape) for shape in (NO_DRAFT, chain(3), TreeShape((3, 2)))] == ["no draft", "chain of 3", "(3,2)"]


def test_a_branching_factor_below_one_is_refused() -> None:
    with pytest.raises(BadParameter, match="at least 1"):
        TreeShape((2, 0))


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 12) -> DraftTree:
    """Over few tokens, so that walks go deep."""
    edges: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, max_nodes))):
        edge = draw(st.integers(ROOT, len(edges) - 1)), draw(st.integers(0, 2))
        if edge not in edges:
            edges.append(edge)
    return DraftTree(tuple(token_id for _, token_id in edges), tuple(parent for parent, _ in edges))


paths = st.lists(st.integers(0, 2), max_size=5)


@given(trees(), paths, paths)
def test_what_is_left_of_a_tree_walks_on_where_the_committed_tokens_ended(
    tree: DraftTree, committed: list[int], then: list[int]
) -> None:
    left = tree.after(committed)
    is_on_tree = len(tree.walk(committed)) == len(committed)
    expected = tree.walk([*committed, *then])[len(committed) :] if is_on_tree else ()
    walked = left.walk(then)
    assert [left.token_ids[node] for node in walked] == [tree.token_ids[node] for node in expected]


@given(trees(), paths, paths)
def test_committing_tokens_at_once_or_one_after_another_leaves_the_same(
    tree: DraftTree, first: list[int], second: list[int]
) -> None:
    assert tree.after([*first, *second]) == tree.after(first).after(second)


@given(trees())
def test_nothing_committed_leaves_the_whole_tree_and_a_leaf_nothing(tree: DraftTree) -> None:
    assert tree.after(()) == tree
    for node in set(range(tree.num_nodes)) - set(tree.parents):
        assert tree.after([tree.token_ids[ancestor] for ancestor in tree.ancestors(node)]) == EMPTY_TREE
