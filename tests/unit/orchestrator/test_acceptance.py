import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import MalformedTree
from draftpool.tree import EMPTY_TREE, ROOT, DraftTree
from orchestrator.acceptance import accept_path

#       10      20
#      /  \      |
#    11    12   21
TREE = DraftTree((10, 20, 11, 12, 21), (ROOT, ROOT, 0, 0, 1))


def test_the_empty_tree_yields_the_targets_own_token() -> None:
    path = accept_path(EMPTY_TREE, [7])
    assert (path.token_ids, path.nodes, path.rows) == ((7,), (), (0,))


def test_a_path_ends_with_the_first_chosen_token_that_was_not_drafted() -> None:
    path = accept_path(TREE, [10, 12, 0, 0, 99, 0])
    assert path.nodes == (0, 3)
    assert path.token_ids == (10, 12, 99)
    assert path.rows == (0, 1, 4)


def test_nothing_is_accepted_when_the_target_chooses_otherwise() -> None:
    assert accept_path(TREE, [99, 11, 21, 0, 0, 0]).token_ids == (99,)


def test_a_reply_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(MalformedTree, match="5 tokens were chosen for a tree of 5 nodes"):
        accept_path(TREE, [1, 2, 3, 4, 5])


@given(st.data())
def test_the_emitted_tokens_are_the_targets_whatever_was_drafted(data: st.DataObject) -> None:
    """A target that is a function of the path so far emits the same sequence with any tree."""

    def target(path: tuple[int, ...]) -> int:
        return hash(path) % 3

    parents = [data.draw(st.integers(ROOT, node - 1)) for node in range(data.draw(st.integers(0, 12)))]
    paths: list[tuple[int, ...]] = []
    kept: list[int] = []
    token_ids: list[int] = []
    for node, parent in enumerate(parents):
        token_id = data.draw(st.integers(0, 2))
        path = (() if parent == ROOT else paths[parent]) + (token_id,)
        if path in paths:  # siblings must differ
            path, token_id = (*path[:-1], node + 3), node + 3
        paths.append(path)
        kept.append(parent)
        token_ids.append(token_id)
    tree = DraftTree(tuple(token_ids), tuple(kept))
    emitted = accept_path(tree, [target(()), *(target(path) for path in paths)]).token_ids
    expected: tuple[int, ...] = ()
    while len(expected) < len(emitted):
        expected += (target(expected),)
    assert emitted == expected
    assert emitted not in paths  # the walk went as deep as the tree allowed
