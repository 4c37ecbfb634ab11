"""Where text goes: results to standard output, everything about them to standard error."""

from __future__ import annotations

from rich.console import Console

_PIPED_WIDTH = 200
"""No line is folded for a reader that is not a terminal."""


def output_console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def message_console() -> Console:
    return Console(stderr=True, highlight=False)
