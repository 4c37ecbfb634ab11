"""The same requests with and without drafting, side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.table import Table
from rich.text import Text

from draftpool.client import Completion


@dataclass(frozen=True)
class Comparison:
    """One request, decoded both ways.

    Attributes:
        sampling: `greedy`, or the temperature and seed.
    """

    model: str
    sampling: str
    prompt: str
    plain: Completion
    drafted: Completion

    @property
    def first_difference(self) -> int | None:
        """Index of the first new token in which the two differ; None where they are identical."""
        plain, drafted = self.plain.token_ids, self.drafted.token_ids
        for index, (left, right) in enumerate(zip(plain, drafted, strict=False)):
            if left != right:
                return index
        return None if len(plain) == len(drafted) else min(len(plain), len(drafted))

    @property
    def speed_up(self) -> float:
        return self.drafted.finish.usage.tokens_per_second / self.plain.finish.usage.tokens_per_second


def comparison_line(comparison: Comparison) -> Text:
    """One request in one line."""
    plain, drafted = comparison.plain.finish.usage, comparison.drafted.finish.usage
    difference = comparison.first_difference
    same = ("same tokens", "green") if difference is None else (f"differs from token {difference} on", "bold red")
    return Text.assemble(
        (f"{drafted.num_new_tokens} tokens · {drafted.tokens_per_second:,.0f} tokens/s drafted, ", "dim"),
        (f"{plain.tokens_per_second:,.0f} plain · {comparison.speed_up:.2f}x · ", "dim"),
        (f"{drafted.tokens_per_pass:.2f} tokens/pass · ", "dim"),
        same,
    )


def comparison_table(comparisons: Sequence[Comparison], caption: str) -> Table:
    """Medians over the prompts, one row for each model and way of sampling."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # so that it fits 80 columns
        caption=caption,
        caption_justify="left",
    )
    table.add_column("model", style="bold", no_wrap=True)
    table.add_column("sampling", no_wrap=True)
    for heading in ("plain\ntokens/s", "drafted\ntokens/s", "speed-\nup", "tokens\n/pass", "same\noutput"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model, sampling in dict.fromkeys((each.model, each.sampling) for each in comparisons):
        table.add_row(
            model,
            sampling,
            *_medians([each for each in comparisons if (each.model, each.sampling) == (model, sampling)]),
        )
    return table


def _medians(group: Sequence[Comparison]) -> list[str | Text]:
    num_same = sum(each.first_difference is None for each in group)
    return [
        f"{median(each.plain.finish.usage.tokens_per_second for each in group):,.0f}",
        f"{median(each.drafted.finish.usage.tokens_per_second for each in group):,.0f}",
        f"{median(each.speed_up for each in group):.2f}x",
        f"{median(each.drafted.finish.usage.tokens_per_pass for each in group):.2f}",
        Text(f"{num_same} of {len(group)}", style="green" if num_same == len(group) else "bold red"),
    ]


def differences(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for every request whose output drafting changed; none is as it must be."""
    return [
        f"{each.model}, {each.sampling}, {each.prompt.splitlines()[0][:60]!r}: the outputs differ from new token "
        f"{each.first_difference} on"
        for each in comparisons
        if each.first_difference is not None
    ]
