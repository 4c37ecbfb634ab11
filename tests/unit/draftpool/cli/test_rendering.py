"""What a generation looks like."""

import io
import json
from dataclasses import replace

from rich.console import Console

from draftpool.cli.rendering import ColourView, JsonView, PlainView, stats_table, summary, token_text
from draftpool.client import Completion, Event, Finish, Round, Start, Token, TreeShape, Usage

USAGE = Usage(
    num_prompt_tokens=5,
    num_new_tokens=8,
    num_rounds=2,
    num_drafted_nodes=20,
    num_accepted_tokens=6,
    draft_us=10_000,
    verify_us=60_000,
    wire_us=10_000,
    queue_us=1_000,
    time_to_first_token_us=50_000,
    total_us=101_000,
    prefill_us=40_000,
    reader_us=5_000,
)
START = Start("id", 42, 5)
FINISH = Finish("length", "", USAGE)


def shown(events: list[Event], *, is_terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=20)
    view = ColourView(console) if is_terminal else PlainView(stream)
    for event in events:
        view.show(event)
    view.end()
    return stream.getvalue()


def test_a_pipe_gets_the_text_and_a_newline_and_nothing_else() -> None:
    events: list[Event] = [START, Token(1, "one", True), Token(2, "", True), Token(3, " two", False), FINISH]
    assert shown(events, is_terminal=False) == "one two\n"


def test_a_text_that_ends_with_a_newline_gets_no_second_one() -> None:
    assert shown([Token(1, "one\n", False)], is_terminal=False) == "one\n"


def test_no_text_is_no_output() -> None:
    assert shown([START, FINISH], is_terminal=False) == ""


def test_a_terminal_shows_drafted_and_own_tokens_in_different_styles() -> None:
    text = shown([Token(1, "a", True), Token(2, "b", False)], is_terminal=True)
    assert text == "\x1b[32ma\x1b[0m\x1b[1mb\x1b[0m\n"


def test_what_the_colours_mean_is_said_once_and_only_where_there_is_text() -> None:
    text, messages = io.StringIO(), io.StringIO()
    view = ColourView(Console(file=text), Console(file=messages))
    view.show(START)
    assert messages.getvalue() == ""
    view.show(Token(1, "one", True))
    view.show(Token(2, " two", False))
    assert messages.getvalue().count("drafted and accepted") == 1


def test_long_text_is_left_to_the_terminal_to_fold() -> None:
    text = shown([Token(1, "word " * 20, False)], is_terminal=True)
    assert text.count("\n") == 1


def test_a_model_cannot_send_escape_sequences_to_the_terminal() -> None:
    assert token_text(Token(1, "a\x1b[2J\r\n\tb", False)).plain == "a␛[2J␍\n\tb"


def test_markup_in_the_text_is_text() -> None:
    assert "[red]" in shown([Token(1, "[red]x[/red]", False)], is_terminal=True)


def test_json_is_one_object_a_line_named_by_its_event() -> None:
    stream = io.StringIO()
    view = JsonView(stream)
    for event in (START, Token(7, "é", True), Round(TreeShape((2, 1)), 4, 1, 1, 2, 3, 9), FINISH):
        view.show(event)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [entry["event"] for entry in objects] == ["start", "token", "round", "finish"]
    assert objects[1] == {"event": "token", "id": 7, "text": "é", "drafted": True, "logprob": None, "top_logprobs": []}
    assert objects[2]["shape"] == [2, 1]
    assert objects[3]["usage"]["num_new_tokens"] == 8


def test_the_summary_counts_from_admission() -> None:
    line = summary(Completion(START, (), (), FINISH)).plain
    assert line == (
        "8 tokens · 80 tokens/s · 4.00 tokens per verify pass · first token after 50.0 ms · seed 42"
        " · ended by the length limit"
    )


def test_the_shares_of_the_time_are_of_the_time_after_admission() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(stats_table(USAGE))
    assert [line.split()[-1] for line in stream.getvalue().splitlines()[:5]] == ["10%", "60%", "10%", "15%", "5%"]
    assert "sessions" not in stream.getvalue()


def test_what_went_wrong_underneath_can_be_seen() -> None:
    stream = io.StringIO()
    disturbed = replace(USAGE, num_verify_sessions=3, num_resumed_tokens=17, num_hedged_rounds=5, num_late_drafts=4)
    Console(file=stream, width=80).print(stats_table(disturbed))
    assert "4 used later" in stream.getvalue()
    assert "0 + 3" in stream.getvalue()
    assert "17" in stream.getvalue().splitlines()[-1]
