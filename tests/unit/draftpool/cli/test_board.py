"""What a person reads of services that start and end."""

import io
from pathlib import Path

from rich.console import Console

from draftpool.cli.board import ServiceBoard
from draftpool.cli.process import ServiceProcess, ServiceSpec
from draftpool.cli.stack import ServiceEvent, ServiceState


def told(role: str, *events: tuple[ServiceState, str], is_terminal: bool = False, is_live: bool = False) -> str:
    stream = io.StringIO()
    board = ServiceBoard(Console(file=stream, force_terminal=is_terminal, width=100, color_system=None))
    service = ServiceProcess(ServiceSpec(role, role, (), "127.0.0.1:0", 1, 5.0), Path("logs"))
    if not is_live:
        for state, detail in events:
            board(ServiceEvent(service, state, detail))
        return stream.getvalue()
    with board.live():
        for state, detail in events:
            board(ServiceEvent(service, state, detail))
    return stream.getvalue()


def test_a_restart_says_what_goes_on_meanwhile_and_where_the_log_is() -> None:
    ended = (ServiceState.ENDED, "was killed by signal 9; starting it again in 1 s")
    text = told("drafter", (ServiceState.STARTING, ""), ended)
    assert text == (
        "… drafter starting\n"
        "✗ drafter was killed by signal 9; starting it again in 1 s; generation goes on, slower, without its drafts. "
        "Its log: logs/drafter.log\n"
    )


def test_stopping_is_told_once_it_is_done() -> None:
    text = told("drafter", (ServiceState.STARTING, ""), (ServiceState.STOPPING, ""), (ServiceState.STOPPED, ""))
    assert text.splitlines()[1:] == ["✓ drafter stopped"]


def test_without_a_terminal_a_live_board_is_plain_lines() -> None:
    events = ((ServiceState.STARTING, ""), (ServiceState.FAILED, "ended with exit code 1"))
    assert told("verifier", *events, is_live=True) == "… verifier starting\n✗ verifier ended with exit code 1\n"


def test_on_a_terminal_a_live_board_has_one_row_a_service() -> None:
    events = ((ServiceState.STARTING, ""), (ServiceState.FAILED, "ended with exit code 1"))
    text = told("verifier", *events, is_terminal=True, is_live=True)
    assert "✗ verifier 0.0 s ended with exit code 1" in text
