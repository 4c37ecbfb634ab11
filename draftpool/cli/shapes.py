"""Tree shapes as people type them."""

from __future__ import annotations

import typer

from draftpool.errors import BadParameter
from draftpool.tree import TreeShape


def parse_shape(text: str) -> TreeShape:
    """`3,2,2,1,1` as a shape: how many children every node of each depth has.

    Raises:
        BadParameter: anything else than whole numbers from 1 on with commas between them.
    """
    factors = [part.strip() for part in text.strip("() ").split(",")]
    if not all(factor.isdecimal() and int(factor) >= 1 for factor in factors):
        raise BadParameter(
            f"a shape is the number of children at each depth, from 1 on, such as 3,2,2,1,1; got {text!r}"
        )
    return TreeShape(tuple(map(int, factors)))


def shape_option(text: str) -> TreeShape:
    """The value of --shape. Raises typer.BadParameter."""
    try:
        return parse_shape(text)
    except BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--shape") from None
