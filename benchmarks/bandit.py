"""The bandit, replayed: recorded once, then any policy against every fixed arm within seconds.

    python -m benchmarks.bandit record texts.json.gz --data DIR
    python -m benchmarks.bandit clock times.json.gz --data DIR
    python -m benchmarks.bandit replay texts.json.gz times.json.gz

`--target` and `--temperature` record in pieces. Prompts of even number are for tuning, of odd number for reporting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.bandit_recording import Recording, record_texts, record_times, save
from benchmarks.prompts import load_suites
from benchmarks.replay import Writer, embedded_drafter

app = typer.Typer(add_completion=False)

Data = Annotated[Path, typer.Option(help="Folder with gsm8k.jsonl, humaneval.jsonl and spec_bench.jsonl.")]
Targets = Annotated[list[str], typer.Option("--target", help="Embedded targets.")]
Temperatures = Annotated[list[float], typer.Option("--temperature")]
TARGETS = ["tiny-llama", "tiny-neox"]
_MAX_SESSIONS = 33


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
    num_rounds: Annotated[int, typer.Option(min=1, help="Of every arm with one session; fewer with more.")] = 60,
) -> None:
    """What rounds take."""
    torch.set_grad_enabled(False)
    drafter = embedded_drafter(1, _MAX_SESSIONS)
    prompts = load_suites(data, 6)
    mixed = [prompt for trio in zip(*prompts.values(), strict=True) for prompt in trio]
    recording = Recording([], {})
    for name in target:
        writer = Writer(name, dtype="bfloat16", num_threads=1)
        for degree in temperature:
            recording.times.update(record_times(writer, drafter, mixed, degree, num_rounds))
    save(recording, path)
    drafter.close()


if __name__ == "__main__":
    app()
