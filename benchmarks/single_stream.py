"""One request at a time: transformers' `generate`, our path without drafting, and with.

All variants run interleaved on the same prompts, one after another, in one run; ratios are medians over prompts of the
ratio within a prompt. Times are what the caller sees, prompt processing included.

    python -m benchmarks.single_stream --prompts gsm8k.jsonl
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import TransformersBaseline
from benchmarks.prompts import load_prompts
from draftpool.cli.plan import EMBEDDED_TARGETS, StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, BestFirst, Client, Completion, TreePolicy, TreeShape
from draftpool.tree import chain

VARIANTS: dict[str, TreePolicy | None] = {
    "no draft": NO_DRAFT,
    "chain of 4": chain(4),
    "(3,2,2,1,1)": TreeShape((3, 2, 2, 1, 1)),
    "best 8 of depth 5": BestFirst(8, 5),
    "best 16 of depth 6": BestFirst(16, 6),
    "bandit": None,
}
BASELINE = "transformers"


@dataclass
class Measured:
    """What one variant did, prompt by prompt."""

    tokens_per_second: list[float] = field(default_factory=list)
    tokens_per_pass: list[float] = field(default_factory=list)
    round_shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    texts: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, completion: Completion, seconds: float) -> None:
        self.texts.append(tuple(token.id for token in completion.tokens))
        self.tokens_per_second.append(len(completion.tokens) / seconds)
        self.tokens_per_pass.append(completion.finish.usage.tokens_per_pass)
        rounds = completion.rounds[1:]  # the first is mostly the prompt
        total_us = sum(round_.round_us for round_ in rounds) or 1
        parts = {
            "drafter": sum(round_.draft_us for round_ in rounds) / total_us,
            "verifier": sum(round_.verify_us for round_ in rounds) / total_us,
            "wire": sum(round_.wire_us for round_ in rounds) / total_us,
        }
        for part, share in (parts | {"orchestrator": 1 - sum(parts.values())}).items():
            self.round_shares[part].append(share)


@dataclass(frozen=True)
class Conditions:
    """How everything is measured."""

    prompts: list[str]
    max_new_tokens: int
    num_warmups: int


async def measure_target(
    client: Client, baseline: TransformersBaseline, target: str, temperature: float, conditions: Conditions
) -> dict[str, Measured]:
    """All variants on all prompts, interleaved; the first prompts warm up and let the bandit learn, uncounted."""
    measured: dict[str, Measured] = defaultdict(Measured)
    warmups = conditions.prompts[-conditions.num_warmups :]
    for index, prompt in enumerate([*warmups, *conditions.prompts]):
        if index == len(warmups):
            measured.clear()
        run = baseline.generate(prompt, max_new_tokens=conditions.max_new_tokens, temperature=temperature)
        measured[BASELINE].tokens_per_second.append(run.tokens_per_second)
        for name, shape in VARIANTS.items():
            start = time.perf_counter()
            completion = await client.complete(
                target,
                prompt,
                max_new_tokens=conditions.max_new_tokens,
                temperature=temperature,
                seed=index,
                drafting=shape,
                want_rounds=True,
            )
            measured[name].add(completion, time.perf_counter() - start)
    return measured


def paired_ratio(measured: dict[str, Measured], name: str, reference: str) -> float:
    pairs = zip(measured[name].tokens_per_second, measured[reference].tokens_per_second, strict=True)
    return median(ours / theirs for ours, theirs in pairs)


def rows_of(target: str, temperature: float, measured: dict[str, Measured]) -> list[dict[str, object]]:
    return [
        {
            "target": target,
            "sampling": "greedy" if temperature == 0 else f"temperature {temperature:g}",
            "variant": name,
            "tokens_per_s": round(median(result.tokens_per_second), 1),
            "over_transformers": round(paired_ratio(measured, name, BASELINE), 2),
            "over_no_draft": round(paired_ratio(measured, name, "no draft"), 2),
            "tokens_per_pass": round(sum(result.tokens_per_pass) / max(1, len(result.tokens_per_pass)), 2),
            "round_shares": {part: round(median(shares), 3) for part, shares in result.round_shares.items()},
            "same_tokens_as_no_draft": result.texts == measured["no draft"].texts if result.texts else None,
            "num_prompts": len(result.tokens_per_second),
        }
        for name, result in measured.items()
    ]


def table_of(rows: list[dict[str, object]], caption: str) -> Table:
    table = Table(title="One request at a time", caption=caption, caption_justify="left")
    table.add_column("target")
    table.add_column("sampling")
    table.add_column("variant")
    headings = ("tokens/s", "x transformers", "x no draft", "tokens/pass", "drafter", "verifier", "wire", "orchestr.")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        shares: dict[str, float] = row["round_shares"]  # type: ignore[assignment]
        table.add_row(
            *(str(row[key]) for key in ("target", "sampling", "variant", "tokens_per_s", "over_transformers")),
            *(str(row[key]) for key in ("over_no_draft", "tokens_per_pass")),
            *(f"{share:.0%}" for share in shares.values()),
            end_section=row["variant"] == "bandit",
        )
    return table


async def run(plan: StackPlan, conditions: Conditions, dtype: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    async with Stack(plan) as stack, Client(stack.orchestrator) as client:
        for target in plan.targets:
            baseline = TransformersBaseline(target, dtype=dtype, num_threads=plan.threads.verifier)
            for temperature in (0.0, 1.0):
                measured = await measure_target(client, baseline, target, temperature, conditions)
                rows += rows_of(target, temperature, measured)
    return rows


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    num_prompts: Annotated[int, typer.Option(help="How many of them.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens generated for each.")] = 128,
    num_warmups: Annotated[int, typer.Option(help="Prompts before counting begins.")] = 4,
    dtype: Annotated[str, typer.Option(help="Of the targets.")] = "bfloat16",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the rows to this file.")] = None,
) -> None:
    """Measure and print the table."""
    plan = StackPlan(targets=EMBEDDED_TARGETS, dtype=dtype)
    conditions = Conditions(load_prompts(prompts, num_prompts), max_new_tokens, num_warmups)
    rows = asyncio.run(run(plan, conditions, dtype))
    source = "GSM8K" if prompts is not None else "demo"
    caption = (
        f"{len(conditions.prompts)} {source} prompts, up to {max_new_tokens} new tokens, {dtype}, threads: verifier "
        f"{plan.threads.verifier}, drafter {plan.threads.drafter}; medians over prompts, variants interleaved"
    )
    Console(width=150).print(table_of(rows, caption))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    typer.run(main)
