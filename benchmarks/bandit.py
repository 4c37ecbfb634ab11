"""The bandit, replayed: recorded once, then any policy against every fixed arm within seconds.

    python -m benchmarks.bandit record texts.json.gz --data DIR
    python -m benchmarks.bandit clock times.json.gz --data DIR
    python -m benchmarks.bandit replay texts.json.gz times.json.gz

`--target` and `--temperature` record in pieces. Prompts of even number are for tuning, of odd number for reporting.

The bandit, live: the whole of draftpool in processes of its own, tables in Markdown.

    python -m benchmarks.bandit live --gsm8k gsm8k.jsonl --humaneval humaneval.jsonl --spec-bench spec_bench.jsonl
    python -m benchmarks.bandit replicas --gsm8k gsm8k.jsonl
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import bandit_live, bandit_replicas
from benchmarks.bandit_recording import LOADS, Recording, load, record_texts, record_times, save
from benchmarks.bandit_replay import worlds
from benchmarks.bandit_tables import (
    MakePlayer,
    bandit,
    fixed_table,
    learning_table,
    nesting_table,
    replicas_table,
    shifting_table,
    visiting_table,
)
from benchmarks.plain_ucb import PlainUcb
from benchmarks.prompts import load_suites, read_suites
from benchmarks.replay import Writer, embedded_drafter
from draftpool.cli.plan import EMBEDDED_TARGETS, StackPlan
from orchestrator.bandit import Method
from orchestrator.settings import DEFAULT_ARMS

app = typer.Typer(add_completion=False)

Data = Annotated[Path, typer.Option(help="Folder with gsm8k.jsonl, humaneval.jsonl and spec_bench.jsonl.")]
Targets = Annotated[list[str], typer.Option("--target", help="Embedded targets.")]
Temperatures = Annotated[list[float], typer.Option("--temperature")]
Gsm8k = Annotated[Path | None, typer.Option(help="Problems, JSON lines with a question.")]
Humaneval = Annotated[Path | None, typer.Option(help="JSON lines with a prompt.")]
SpecBench = Annotated[Path | None, typer.Option(help="JSON lines with turns.")]
Dtype = Annotated[str, typer.Option(help="Of the targets.")]
TARGETS = list(EMBEDDED_TARGETS)
_MAX_SESSIONS = 48


@app.command()
def record(
    path: Annotated[Path, typer.Argument(help="Written to.")],
    data: Data,
    target: Targets = TARGETS,
    temperature: Temperatures = [0.0, 1.0],  # noqa: B006
    num_prompts: Annotated[int, typer.Option(min=2, help="Of each suite.")] = 96,
    num_positions: Annotated[int, typer.Option(min=1, help="Of each text.")] = 32,
) -> None:
    """What every arm does at every position."""
    torch.set_grad_enabled(False)
    drafter = embedded_drafter(1, _MAX_SESSIONS)
    suites = load_suites(data, num_prompts)
    writers = [Writer(name, dtype="bfloat16", num_threads=1) for name in target]
    texts = [
        text
        for writer in writers
        for degree in temperature
        for text in record_texts(writer, drafter, suites, degree, num_positions)
    ]
    save(Recording(texts, {}), path)
    drafter.close()


@app.command()
def clock(
    path: Annotated[Path, typer.Argument(help="Written to.")],
    data: Data,
    target: Targets = TARGETS,
    temperature: Temperatures = [0.0, 1.0],  # noqa: B006
    num_rounds: Annotated[int, typer.Option(min=1, help="Of every arm under every load.")] = 30,
) -> None:
    """What rounds take."""
    torch.set_grad_enabled(False)
    drafter = embedded_drafter(1, _MAX_SESSIONS)
    prompts = load_suites(data, 6)
    mixed = [prompt for trio in zip(*prompts.values(), strict=True) for prompt in trio]
    recording = Recording([], {})
    for name in target:
        writer = Writer(name, dtype="bfloat16", num_threads=1)
        recording.times.update(record_times(writer, drafter, mixed, temperature, num_rounds))
    save(recording, path)
    drafter.close()


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="What was recorded, in however many pieces.")],
    num_rounds: Annotated[int, typer.Option(min=200, help="A stream's length.")] = 1000,
    num_seeds: Annotated[int, typer.Option(min=1, help="Orders of the texts.")] = 5,
) -> None:
    """The tables, on the half of the prompts that nothing was tuned on."""
    every = list(worlds(load(paths), is_reporting=True))
    method = Method()
    players: dict[str, MakePlayer] = {
        "full information": partial(bandit, method),
        "plain UCB1": partial(PlainUcb, DEFAULT_ARMS, 0.15),
    }
    tables = (
        nesting_table(every),
        visiting_table(every),
        *(fixed_table(every, method, num_sessions, num_rounds, num_seeds) for num_sessions in LOADS),
        shifting_table(every, method, 4 * num_rounds, num_seeds),
        learning_table(every, players, num_rounds, 4 * num_seeds),
        replicas_table(every, method, num_rounds // 2, 4 * num_seeds),
    )
    for table in tables:
        Console(width=200).print(table)


@app.command()
def live(
    gsm8k: Gsm8k = None,
    humaneval: Humaneval = None,
    spec_bench: SpecBench = None,
    target: Targets = TARGETS,
    temperature: Temperatures = [0.0, 1.0],  # noqa: B006
    num_prompts: Annotated[int, typer.Option(min=3, help="Of each suite, if it has as many.")] = 90,
    max_new_tokens: Annotated[int, typer.Option(min=8, help="After each prompt.")] = 40,
    dtype: Dtype = "bfloat16",
) -> None:
    """The bandit beside fixed arms on the same prompts, on the running system; without files, on the demo's prompts.

    By default both targets, greedily and at temperature 1, with 90 prompts of three suites: 2,100 answers each of the
    four. `--target` and `--temperature` take them apart.
    """
    suites = read_suites(gsm8k, humaneval, spec_bench, num_prompts)
    conditions = bandit_live.Conditions(suites, max_new_tokens)
    parts = [
        bandit_live.live_rows(StackPlan(targets=(name,), dtype=dtype, has_redis=False), temperature, conditions)
        for name in target
    ]
    asyncio.run(_print_table(bandit_live.HEADING, parts))


@app.command()
def replicas(
    gsm8k: Gsm8k = None,
    humaneval: Humaneval = None,
    spec_bench: SpecBench = None,
    target: Targets = TARGETS,
    temperature: Temperatures = [0.0, 1.0],  # noqa: B006
    num_prompts: Annotated[int, typer.Option(min=1, help="Of each suite, if it has as many.")] = 40,
    max_new_tokens: Annotated[int, typer.Option(min=16, help="After each prompt.")] = 40,
    num_rounds: Annotated[int, typer.Option(min=100, help="That each replica plays.")] = 300,
    num_seeds: Annotated[int, typer.Option(min=1, help="Repetitions.")] = 5,
    flush_interval_s: Annotated[float, typer.Option(min=0.01, help="Between two exchanges with Redis.")] = 0.75,
    dtype: Dtype = "bfloat16",
) -> None:
    """Rounds until two orchestrators that share have learned, beside one alone, and a third that starts later."""
    suites = read_suites(gsm8k, humaneval, spec_bench, num_prompts)
    conditions = bandit_replicas.Conditions(suites, max_new_tokens, num_rounds, num_seeds, flush_interval_s)
    parts = [
        bandit_replicas.replica_rows(StackPlan(targets=(name,), dtype=dtype, has_redis=False), temperature, conditions)
        for name in target
    ]
    asyncio.run(_print_table(bandit_replicas.HEADING, parts))


async def _print_table(heading: Sequence[str], parts: Sequence[AsyncIterator[list[str]]]) -> None:
    """In Markdown, every row as soon as it is measured."""
    typer.echo(_line(heading))
    typer.echo(_line(["---"] * len(heading)))
    for part in parts:
        async for row in part:
            typer.echo(_line(row))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    app()
