"""Tree shapes as people type them."""

from __future__ import annotations

import typer

from draftpool.errors import BadParameter
from draftpool.tree_policy import TreePolicy, parse_policy


def shape_option(text: str) -> TreePolicy:
    """The value of --shape. Raises typer.BadParameter."""
    try:
        return parse_policy(text)
    except BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--shape") from None
