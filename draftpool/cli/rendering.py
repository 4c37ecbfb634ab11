"""A generation as it is shown: coloured on a terminal, plain text in a pipe, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Protocol, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from draftpool.client import Completion, Event, Round, Token, TreeShape, Usage

DRAFTED_STYLE = "green"
OWN_STYLE = "bold"
_FAINT = "dim"

_VISIBLE_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""A model may emit escape sequences; a terminal should show them, not obey them."""


class EventView(Protocol):
    """Shows the events of a generation as they come."""

    def show(self, event: Event) -> None: ...

    def end(self) -> None:
        """The generation is over, finished or not."""


class SilentView:
    """Nothing; for generations that are only measured."""

    def show(self, event: Event) -> None: ...

    def end(self) -> None: ...


class PlainView:
    """The text and nothing else, ended by a newline."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = "\n"

    def show(self, event: Event) -> None:
        if isinstance(event, Token) and event.text:
            self._stream.write(event.text)
            self._stream.flush()
            self._last = event.text[-1]

    def end(self) -> None:
        if self._last != "\n":
            self._stream.write("\n")
            self._stream.flush()


class JsonView:
    """One JSON object a line for every event, named by `event`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Event) -> None:
        fields = asdict(event)
        if isinstance(event, Round) and isinstance(event.shape, TreeShape):
            fields["shape"] = list(event.shape.branching)  # a best-first tree has named fields
        line = json.dumps({"event": type(event).__name__.lower(), **fields}, ensure_ascii=False)
        self._stream.write(line + "\n")
        self._stream.flush()

    def end(self) -> None:
        self._stream.flush()


class ColourView:
    """Drafted and accepted tokens in one colour, the target's own in another; what that means goes to `messages`."""

    def __init__(self, console: Console, messages: Console | None = None) -> None:
        self._console = console
        self._messages = messages
        self._last = "\n"

    def show(self, event: Event) -> None:
        if isinstance(event, Token) and event.text:
            if self._messages is not None:
                self._messages.print(legend())
                self._messages = None  # once
            self._console.print(token_text(event), end="", soft_wrap=True)
            self._last = event.text[-1]

    def end(self) -> None:
        if self._last != "\n":
            self._console.print()


async def show_generation(view: EventView, generation: AsyncGenerator[Event, None]) -> Completion:
    """Show a generation as it comes; cancelled, it cancels the generation."""
    events: list[Event] = []
    try:
        async with aclosing(generation):
            async for event in generation:
                events.append(event)
                view.show(event)
    finally:
        view.end()
    return Completion.from_events(events)


def token_text(token: Token) -> Text:
    """A token's text in the colour of its origin, safe to print on a terminal."""
    return Text(token.text.translate(_VISIBLE_CONTROLS), style=DRAFTED_STYLE if token.drafted else OWN_STYLE)


def legend() -> Text:
    """What the colours mean."""
    return Text.assemble(("drafted and accepted", DRAFTED_STYLE), (" · ", _FAINT), ("the model's own", OWN_STYLE))


def summary(completion: Completion) -> Text:
    """A generation in one line."""
    usage = completion.finish.usage
    parts = [
        f"{usage.num_new_tokens} tokens",
        f"{usage.tokens_per_second:,.0f} tokens/s",
        f"{usage.tokens_per_pass:.2f} tokens per verify pass",
        f"first token after {_ms(usage.time_to_first_token_us)}",
        f"seed {completion.start.seed}",
        f"ended by {_ENDINGS[completion.finish.reason]}",
    ]
    return Text(" · ".join(parts), style=_FAINT)


_ENDINGS = {
    "eos": "the model",
    "length": "the length limit",
    "stop": "a stop string or token",
    "unspecified": "the server",
}


def stats_table(usage: Usage) -> Table:
    """Where the time went, and what drafting brought."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style=_FAINT)
    table.add_column(justify="right")
    table.add_column(justify="right", style=_FAINT)
    running_us = usage.total_us - usage.queue_us
    other_us = max(0, running_us - usage.draft_us - usage.verify_us - usage.wire_us - usage.reader_us)
    for label, time_us in (
        ("drafter", usage.draft_us),
        ("verifier", usage.verify_us),
        ("wire", usage.wire_us),
        ("orchestrator", other_us),
        ("waiting for the reader", usage.reader_us),
    ):
        table.add_row(label, _ms(time_us), f"{time_us / max(1, running_us):.0%}")
    table.add_row("prefill", _ms(usage.prefill_us), "of the verifier's time")
    table.add_row("waited for its turn", _ms(usage.queue_us), "")
    table.add_row("first token after", _ms(usage.time_to_first_token_us), "")
    table.add_row("rounds", f"{usage.num_rounds:,}", "")
    table.add_row("drafted nodes", f"{usage.num_drafted_nodes:,}", "")
    table.add_row("accepted", f"{usage.num_accepted_tokens:,}", f"{_share(usage):.0%} of new tokens")
    if usage.num_hedged_rounds:
        table.add_row("drafts not waited for", f"{usage.num_hedged_rounds:,}", f"{usage.num_late_drafts:,} used later")
    if usage.num_draft_sessions > 1 or usage.num_verify_sessions > 1:
        table.add_row("sessions", f"{usage.num_draft_sessions} + {usage.num_verify_sessions}", "drafters, verifiers")
    if usage.num_resumed_tokens:
        table.add_row("before the stream broke", f"{usage.num_resumed_tokens:,}", "tokens, not counted above")
    return table


def _ms(time_us: int) -> str:
    return f"{time_us / 1000:,.1f} ms"


def _share(usage: Usage) -> float:
    return usage.num_accepted_tokens / max(1, usage.num_new_tokens)
