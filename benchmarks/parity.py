"""Is the output the target's own? Greedy tokens against transformers' `generate`, and drafting on against off.

In float32 every token must be the same. In bfloat16 a pass over many tokens rounds otherwise than a pass over one, so
two nearly equal logits may change places; each such place is shown with the gap between the two largest logits
(in float32) there.

    python -m benchmarks.parity --prompts gsm8k.jsonl --dtype float32
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.baseline import TransformersBaseline
from benchmarks.prompts import load_prompts
from draftpool.cli.plan import EMBEDDED_TARGETS, StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, TreeShape

SHAPE = TreeShape((3, 2, 2, 1, 1))


@dataclass(frozen=True)
class Difference:
    """The first place where two outputs part.

    Attributes:
        pair: what was compared.
        position: index among the new tokens.
        logit_gap: between the target's two best tokens there, in float32.
    """

    target: str
    pair: str
    prompt: int
    position: int
    logit_gap: float


def first_difference(left: tuple[int, ...], right: tuple[int, ...]) -> int | None:
    """Index of the first token that differs; None where one continues the other to the same length."""
    for position, (ours, theirs) in enumerate(zip(left, right, strict=False)):
        if ours != theirs:
            return position
    return None if len(left) == len(right) else min(len(left), len(right))


@dataclass(frozen=True)
class Comparison:
    """Compares outputs for one target."""

    target: str
    client: Client
    baseline: TransformersBaseline
    reference: TransformersBaseline
    max_new_tokens: int

    async def differences(self, number: int, prompt: str) -> list[Difference]:
        theirs = self.baseline.generate(prompt, max_new_tokens=self.max_new_tokens, temperature=0).token_ids
        plain = await self._ours(prompt, NO_DRAFT)
        drafted = await self._ours(prompt, SHAPE)
        pairs = {"transformers, no draft": (theirs, plain), "no draft, drafted": (plain, drafted)}
        found: list[Difference] = []
        for pair, (left, right) in pairs.items():
            position = first_difference(left, right)
            if position is not None:
                context = self.reference.encode(prompt) + left[:position]
                gap = self.reference.top_two_gap(context)
                found.append(Difference(self.target, pair, number, position, gap))
        return found

    async def _ours(self, prompt: str, shape: TreeShape) -> tuple[int, ...]:
        completion = await self.client.complete(
            self.target, prompt, max_new_tokens=self.max_new_tokens, temperature=0, drafting=shape
        )
        return completion.token_ids


async def run(targets: tuple[str, ...], prompts: list[str], max_new_tokens: int, dtype: str) -> list[Difference]:
    plan = StackPlan(targets=targets, dtype=dtype)
    differences: list[Difference] = []
    async with Stack(plan) as stack, Client(stack.orchestrator) as client:
        for target in plan.targets:
            baseline = TransformersBaseline(target, dtype=dtype, num_threads=1)
            reference = TransformersBaseline(target, dtype="float32", num_threads=1)
            comparison = Comparison(target, client, baseline, reference, max_new_tokens)
            for number, prompt in track(list(enumerate(prompts)), description=target):
                differences += await comparison.differences(number, prompt)
    return differences


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    num_prompts: Annotated[int, typer.Option(help="How many of them.")] = 100,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens generated for each.")] = 128,
    dtype: Annotated[str, typer.Option(help="Of the targets.")] = "float32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the differences to this file.")] = None,
) -> None:
    """Compare and print; in float32 any difference is an exit status of 1."""
    targets = tuple(target or EMBEDDED_TARGETS)
    texts = load_prompts(prompts, num_prompts)
    differences = asyncio.run(run(targets, texts, max_new_tokens, dtype))
    table = Table("target", "compared", "prompts that differ", "largest logit gap there")
    for name in targets:
        for pair in ("transformers, no draft", "no draft, drafted"):
            found = [d for d in differences if d.target == name and d.pair == pair]
            gap = max((difference.logit_gap for difference in found), default=None)
            table.add_row(name, pair, f"{len(found)} of {len(texts)}", "-" if gap is None else f"{gap:.4f}")
    Console().print(f"{len(texts)} prompts, up to {max_new_tokens} new tokens, greedy, {dtype}", table)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(difference) for difference in differences], indent=2))
    if differences and dtype == "float32":
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
