"""Tree shapes as people type them."""

from __future__ import annotations

import re

import typer

from draftpool.errors import BadParameter
from draftpool.tree import TreeShape
from draftpool.tree_policy import BestFirst, TreePolicy

_BEST_FIRST = re.compile(r"best ([1-9]\d{0,5})(?: of depth |x)([1-9]\d{0,5})", re.ASCII)


def parse_shape(text: str) -> TreePolicy:
    """`3,2,2,1,1`: how many children every node of each depth has; `best 16x6`: the 16 best nodes, 6 deep at most.

    Raises:
        BadParameter: anything else.
    """
    if budget := _BEST_FIRST.fullmatch(text.strip()):
        return BestFirst(max_nodes=int(budget[1]), max_depth=int(budget[2]))
    factors = [part.strip() for part in text.strip("() ").split(",")]
    if not all(factor.isdecimal() and int(factor) >= 1 for factor in factors):
        raise BadParameter(
            "a shape is the number of children at each depth, from 1 on, such as 3,2,2,1,1, or the nodes and levels "
            f"of a best-first tree, such as best 16x6; got {text!r}"
        )
    return TreeShape(tuple(map(int, factors)))


def shape_option(text: str) -> TreePolicy:
    """The value of --shape. Raises typer.BadParameter."""
    try:
        return parse_shape(text)
    except BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--shape") from None
