"""Shapes as people type them."""

import pytest

from draftpool.errors import BadParameter
from draftpool.tree import TreeShape
from draftpool.tree_policy import BestFirst, parse_policy


@pytest.mark.parametrize("text", ["3,2,2,1,1", "3, 2, 2, 1, 1", "(3,2,2,1,1)", " 3,2,2,1,1 "])
def test_a_shape_is_read_with_or_without_spaces_and_brackets(text: str) -> None:
    assert parse_policy(text) == TreeShape((3, 2, 2, 1, 1))


def test_a_shape_reads_back_what_it_prints() -> None:
    for shape in (TreeShape((2, 2, 1)), BestFirst(16, 6)):
        assert parse_policy(str(shape)) == shape


def test_a_best_first_tree_is_its_nodes_and_its_levels() -> None:
    assert parse_policy("best 16x6") == BestFirst(max_nodes=16, max_depth=6)


@pytest.mark.parametrize("text", ["", "3,,1", "3,0", "-1", "a,b", "1.5", "3;2", "²", "best", "best 0x3", "best 3x"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match=r"such as 3,2,2,1,1"):
        parse_policy(text)
