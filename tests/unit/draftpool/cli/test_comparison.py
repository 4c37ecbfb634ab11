"""Drafting on against drafting off."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from draftpool.cli.comparison import Comparison, comparison_line, comparison_table, differences
from draftpool.client import Completion, Finish, Start, Token, Usage


def completion(token_ids: Sequence[int], *, total_us: int = 1_000_000, num_rounds: int = 1) -> Completion:
    usage = Usage(3, len(token_ids), num_rounds, 0, 0, 0, 0, 0, 0, 0, total_us)
    tokens = tuple(Token(token_id, "x", False) for token_id in token_ids)
    return Completion(Start("id", 1, 3), tokens, (), Finish("length", "", usage))


def comparison(plain: Sequence[int], drafted: Sequence[int], *, drafted_us: int = 500_000) -> Comparison:
    return Comparison("m", "greedy", "a prompt\nx", completion(plain), completion(drafted, total_us=drafted_us))


@pytest.mark.parametrize(
    ("plain", "drafted", "difference"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([1, 2], [1], 1), ([], [], None)],
)
def test_the_first_difference_is_where_the_outputs_part(
    plain: list[int], drafted: list[int], difference: int | None
) -> None:
    assert comparison(plain, drafted).first_difference == difference


def test_the_speed_up_is_the_ratio_of_the_rates() -> None:
    assert comparison([1, 2], [1, 2], drafted_us=250_000).speed_up == pytest.approx(4)


def test_a_difference_is_said_with_its_place() -> None:
    [sentence] = differences([comparison([1, 2], [1, 2]), comparison([1, 2], [1, 3])])
    assert sentence == "m, greedy, 'a prompt': the outputs differ from new token 1 on"
    assert "differs from token 1 on" in comparison_line(comparison([1, 2], [1, 3])).plain


def test_the_table_has_medians_by_model_and_sampling() -> None:
    stream = io.StringIO()
    rows = [comparison([1, 2], [1, 2], drafted_us=us) for us in (1_000_000, 500_000, 100_000)]
    Console(file=stream, width=100).print(comparison_table([*rows, comparison([1], [2])], "as measured"))
    row = next(line for line in stream.getvalue().splitlines() if "greedy" in line)
    assert row.split() == ["m", "greedy", "2", "3", "2.00x", "2.00", "3", "of", "4"]
    assert "as measured" in stream.getvalue()


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    stream = io.StringIO()
    wide = Comparison("tiny-llama", "temperature 1, seed 7", "a", completion([1] * 1234), completion([1] * 1234))
    Console(file=stream, width=80).print(comparison_table([wide], "as measured"))
    assert "tiny-llama  temperature 1, seed 7     1,234     1,234   1.00x  1234.00  1 of 1" in stream.getvalue()
