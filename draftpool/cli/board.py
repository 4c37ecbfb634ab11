"""How services are doing, for the person who started them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from draftpool.cli.stack import ServiceEvent, ServiceState

_REFRESH_PER_S = 6
_MARKS = {
    ServiceState.READY: ("✓", "green"),
    ServiceState.FAILED: ("✗", "red"),
    ServiceState.ENDED: ("✗", "red"),
    ServiceState.STARTING: ("…", "cyan"),
    ServiceState.STOPPING: ("…", "dim"),
    ServiceState.STOPPED: ("✓", "dim"),
}
_CONSEQUENCES = {
    "drafter": "generation goes on, slower, without its drafts",
    "verifier": "its model is not served meanwhile",
    "orchestrator": "nothing is answered meanwhile",
    "redis": "the orchestrator goes on learning alone",
}


@dataclass
class _Row:
    """What is known of a service while all are starting."""

    event: ServiceEvent
    began: float
    ended: float | None = None

    @property
    def elapsed_s(self) -> float:
        return (self.ended or time.monotonic()) - self.began


class ServiceBoard:
    """Shows service events: a live table inside `live()` on a terminal, else a line an event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, _Row] = {}
        self._spinner = Spinner("dots", style="cyan")
        self._is_live = False

    def __call__(self, event: ServiceEvent) -> None:
        name = event.service.name
        if event.state is ServiceState.STARTING:
            self._rows[name] = _Row(event, time.monotonic())
        row = self._rows[name]
        row.event = event
        if event.state is not ServiceState.STARTING:
            row.ended = row.ended or time.monotonic()
        if not self._is_live and event.state is not ServiceState.STOPPING:
            self._console.print(_line(event, row), soft_wrap=True)

    def say_stopping(self) -> None:
        """Said once, before the services stop one after the other."""
        self._console.print("\nStopping; running requests may end. Ctrl-C again ends everything at once.", style="dim")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show one row a service, kept current; plain lines where the console is no terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self, console=self._console, refresh_per_second=_REFRESH_PER_S):
            self._is_live = True
            try:
                yield
            finally:
                self._is_live = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 1), expand=True)  # else a long detail would take its room from the names
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
        for name, row in list(self._rows.items()):
            state = row.event.state
            mark = self._spinner if state is ServiceState.STARTING else Text(*_MARKS[state])
            table.add_row(mark, name, f"{row.elapsed_s:.1f} s", Text(_detail(row.event)))
        yield table


def _detail(event: ServiceEvent) -> str:
    """Beside the state: where it answers, why it ended, or the last thing it said while it loads."""
    if event.state is ServiceState.READY:
        metrics = event.service.metrics_address
        return f"{event.service.address} · pid {event.service.pid}" + (f" · metrics at {metrics}" if metrics else "")
    if event.state is ServiceState.STARTING:
        return " ".join(event.service.log_tail(1))
    return event.detail


def _line(event: ServiceEvent, row: _Row) -> Text:
    mark, style = _MARKS[event.state]
    name = event.service.name
    if event.state is ServiceState.ENDED:
        sentence = f"{name} {event.detail}; {_CONSEQUENCES[event.service.role]}. Its log: {event.service.log_path}"
    elif event.state is ServiceState.READY:
        sentence = f"{name} ready after {row.elapsed_s:.1f} s: {_detail(event)}"
    else:
        sentence = f"{name} {event.detail or event.state.value}"
    return Text.assemble((f"{mark} ", style), sentence)
