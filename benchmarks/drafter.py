"""The drafter's engine against what transformers offers, on one CPU thread: `python -m benchmarks.drafter`.

A round commits two accepted tokens and a bonus token, then drafts. Ours runs on the caller's thread, without gRPC, on
the embedded drafter; transformers runs the same weights, and a Llama of as many random ones. What is compared runs in
turn; times are medians, and ratios the medians of the ratios within one repetition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.drafter_sections import (
    DTYPES,
    MAX_SESSIONS,
    PREFILL_TOKENS,
    Bench,
    Row,
    measure_agreement,
    measure_batches,
    measure_contexts,
    measure_prefill,
    measure_rounds,
)
from benchmarks.drafters import MAMBA_130M, OurPool, load_mamba_of_transformers, random_llama, save_random_mamba
from draftpool.cli.demo_prompts import PROMPTS
from draftpool.embedded import embedded_path

SECTIONS: Mapping[str, tuple[Callable[[Bench], list[Row]], str]] = {
    "One draft": (measure_rounds, "Context from 128 tokens on. Aims: Mamba at least 5x, Llama at least 2x."),
    "The same tree": (
        measure_agreement,
        "Of the tree of transformers in float32, means over 8 contexts. Aim: ours in float32 all.",
    ),
    "Sessions drafted together": (measure_batches, "Aim: 8 sessions at most 2.5x."),
    "A session as the context grows, chain of 5": (
        measure_contexts,
        "Slots hold the session and the 4 stepped nodes of its tree. Aim: within 10% of the first, bytes equal.",
    ),
    f"Prefill of {PREFILL_TOKENS} tokens": (measure_prefill, "Aim: at least 20x."),
}


def table_of(title: str, rows: Sequence[Row], caption: str) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    for heading, value in rows[0].items():
        table.add_column(heading, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    return table


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


@contextmanager
def open_bench(folder: Path, state_memory_mib: int, contexts: Sequence[int], repetitions: int) -> Iterator[Bench]:
    pool, exact_pool = (
        OurPool(folder, max_sessions=MAX_SESSIONS, state_memory_mib=state_memory_mib, dtype=dtype)
        for dtype in ("bfloat16", "float32")
    )
    mambas = {name: load_mamba_of_transformers(folder, dtype) for name, dtype in DTYPES.items()}
    llamas = {name: random_llama(mambas["float32"], dtype) for name, dtype in DTYPES.items()}
    prompts = pool.replica.speller.spell("\n".join(PROMPTS).encode())
    text = list(islice(cycle(prompts), max(*contexts, PREFILL_TOKENS) + 1024))
    try:
        yield Bench(folder, state_memory_mib, pool, exact_pool, mambas, llamas, text, contexts, repetitions)
    finally:
        pool.close()
        exact_pool.close()


def measure(console: Console, name: str, bench: Bench) -> dict[str, list[Row]]:
    found = {}
    console.rule(f"{name}, {bench.mambas['float32'].num_parameters():,} parameters")
    for title, (section, caption) in SECTIONS.items():
        found[title] = section(bench)
        console.print(table_of(title, found[title], caption))
    return found


def main(
    repetitions: Annotated[int, typer.Option(min=1, help="Rounds counted, of everything.")] = 40,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the rows to this file.")] = None,
    large: Annotated[bool, typer.Option("--large", help="Also a Mamba of 130 million random weights.")] = False,
) -> None:
    """Measure and print the tables."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    console = Console(width=110)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    found: dict[str, Any] = {"conditions": versions | {"repetitions": repetitions}}
    name = "tiny-mamba-drafter"
    with open_bench(embedded_path(name), 512, (128, 1024, 4096, 16384), repetitions) as bench:
        found[name] = measure(console, name, bench)
    if large:
        name = "random Mamba of mamba-130m's shape"
        with TemporaryDirectory() as folder:
            save_random_mamba(MAMBA_130M, Path(folder))
            with open_bench(Path(folder), 4096, (128, 1024, 4096), max(5, repetitions // 4)) as bench:
                found[name] = measure(console, name, bench)
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
