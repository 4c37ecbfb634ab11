"""How errors look to a person: one red sentence, and never a traceback for what was reported on purpose."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from draftpool.cli.child import ERROR_PREFIX, ServiceFailed
from draftpool.client import NothingAnswers
from draftpool.errors import DraftpoolError


def report(error: DraftpoolError, console: Console) -> None:
    """Print an error in one line, and before it what a service that failed last said."""
    if isinstance(error, ServiceFailed):
        for line in error.log_tail:
            console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    sentence = " ".join(_sentence(error).split())
    console.print(Text(f"{ERROR_PREFIX}{sentence}", style="red"), soft_wrap=True)


def _sentence(error: DraftpoolError) -> str:
    if isinstance(error, NothingAnswers):
        return f"{error.message}; start it with `draftpool up`, or say where it is with --address"
    return error.message
