"""The drafter's engines: what a step of a few tree nodes costs, and a prefill beside transformers' own on a CPU.

`python -m benchmarks.drafter_engines` measures the embedded drafter and a Mamba-2 of the same size with random weights;
`--large` adds the shapes of `mamba-130m` and `mamba2-130m`. Models take turns; medians. transformers runs without
its CUDA kernels, in float32 and in bfloat16.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Mamba2Config, MambaConfig

from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import load_mamba
from draftpool.embedded import embedded_path

MAMBA2_TINY = Mamba2Config(
    vocab_size=8192,
    hidden_size=192,
    num_hidden_layers=3,
    num_heads=6,
    head_dim=64,
    n_groups=1,
    state_size=16,
    tie_word_embeddings=True,
)
MAMBA_130M = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24)
MAMBA2_130M = Mamba2Config(
    vocab_size=50288,
    hidden_size=768,
    num_hidden_layers=24,
    num_heads=24,
    head_dim=64,
    n_groups=1,
    state_size=128,
    tie_word_embeddings=True,
)

_MAX_NODES = 32

console = Console(width=max(100, Console().width))
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Engines:
    """One checkpoint, loaded by us and by transformers."""

    ours: RecurrentModel
    theirs: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype, state_dtype: torch.dtype) -> Engines:
        weights = load_mamba(folder, dtype=dtype, device="cpu")
        return cls(
            ours=RecurrentModel(weights, 1 + _MAX_NODES, state_dtype=state_dtype),
            theirs={
                str(theirs).removeprefix("torch."): AutoModelForCausalLM.from_pretrained(folder, dtype=theirs)
                for theirs in (torch.float32, torch.bfloat16)
            },
        )

    def step(self, num_nodes: int) -> None:
        """A level whose nodes all have the same parent."""
        self.ours.step(list(range(num_nodes)), [0] * num_nodes, list(range(1, 1 + num_nodes)))

    def prefill(self, token_ids: list[int]) -> None:
        self.ours.reset(0)
        self.ours.prefill(token_ids, 0)


def median_seconds(tasks: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """The tasks take turns, so that what else the machine does hits all alike; each has one turn for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(1 + repetitions):
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.inference_mode()
def measure(title: str, engines: Engines, nodes: list[int], num_tokens: int, repetitions: int) -> None:
    token_ids = [token_id % 8000 for token_id in range(num_tokens)]
    engines.ours.reset(0)
    steps = median_seconds(
        {str(number): lambda number=number: engines.step(number) for number in nodes},  # type: ignore[misc]
        50 * repetitions,
    )
    context = torch.tensor([token_ids])
    prefills = median_seconds(
        {"ours": lambda: engines.prefill(token_ids)}
        | {
            name: lambda model=model: model(context, use_cache=True, logits_to_keep=1)
            for name, model in engines.theirs.items()
        },
        repetitions,
    )
    table = Table(title=f"{title}, state of {engines.ours.slot_bytes / 1024:.0f} KiB")
    for column in ("what", "ms", "ours is"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, seconds in steps.items():
        table.add_row(f"step of {name} nodes", f"{1e3 * seconds:.3f}")
    for name, seconds in prefills.items():
        ratio = "" if name == "ours" else f"{seconds / prefills['ours']:.1f}x"
        table.add_row(f"prefill of {num_tokens} tokens, {name}", f"{1e3 * seconds:.1f}", ratio)
    console.print(table)


def save_random(config: MambaConfig | Mamba2Config, folder: Path) -> str:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return str(folder)


@app.command()
def main(
    nodes: Annotated[str, typer.Option(help="Of a step, one after the other.")] = "1,3,6,12",
    tokens: Annotated[int, typer.Option(min=1, help="Of a prefill.")] = 1024,
    repetitions: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    dtype: str = "bfloat16",
    state_dtype: str = "float32",
    large: Annotated[bool, typer.Option(help="Also the shapes of the 130M models.")] = False,
) -> None:
    """Measure the engines."""
    torch.set_num_threads(threads)
    counts = [int(number) for number in nodes.split(",")]
    configs: dict[str, MambaConfig | Mamba2Config] = {"Mamba-2, the embedded drafter's size": MAMBA2_TINY}
    if large:
        configs |= {"mamba-130m's shape": MAMBA_130M, "mamba2-130m's shape": MAMBA2_130M}
    dtypes = getattr(torch, dtype), getattr(torch, state_dtype)
    embedded = Engines.load(str(embedded_path("tiny-mamba-drafter")), *dtypes)
    measure("Mamba-1, the embedded drafter", embedded, counts, tokens, repetitions)
    for title, config in configs.items():
        with TemporaryDirectory() as folder:
            engines = Engines.load(save_random(config, Path(folder)), *dtypes)
        measure(title, engines, counts, tokens, repetitions)


if __name__ == "__main__":
    app()
