"""Check and measure a verifier's passes on a GPU, in one call: `python -m benchmarks.gpu --out results`.

The models have random weights in the shapes of well-known ones and are made on the device; nothing is downloaded.
Results are written as they come, so a run that is cut off has shown what it had. `--dry-run` goes through all of it
with tiny shapes, on a CPU if need be.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu_checks import Check, check_kernels, check_models
from benchmarks.gpu_shapes import LARGE, PAGE_TOKENS, TINY, PassSize, fill, random_target, weight_bytes
from benchmarks.gpu_timing import Stopwatch, copy_bandwidth, time_attention, time_passes, until
from draftpool.cuda_graphs import CudaGraphs, Recorder
from verifier_service.buckets import Bucket
from verifier_service.fitness import layer_shapes
from verifier_service.graphs import AttentionMaker, GraphRunner
from verifier_service.kv_store import KvStore, LayerShape
from verifier_service.paged_attention import PagedAttention
from verifier_service.runner import PassRunner, has_kernels

_KV_SHARE = 0.8
"""Of the memory that the weights leave."""


@dataclass
class Report:
    """Everything found, written anew after every finding."""

    folder: Path
    conditions: dict[str, Any]
    checks: list[Check] = field(default_factory=list)
    attention: list[dict[str, Any]] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {key: value for key, value in asdict(self).items() if key != "folder"}
        (self.folder / "gpu.json").write_text(json.dumps(found, indent=1))
        (self.folder / "gpu.md").write_text(self.markdown())

    def note(self, text: str) -> None:
        typer.echo(text)
        self.notes.append(text)
        self.write()

    def add_check(self, check: Check) -> None:
        self.checks.append(check)
        if not check.is_good:
            typer.echo(f"FAILED: {check.name}: {check.detail}")
        self.write()

    def add_row(self, rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
        typer.echo("  ".join(f"{key} {_shown(value)}" for key, value in row.items()))
        rows.append(row)
        self.write()

    def markdown(self) -> str:
        failed = [f"- FAILED {check.name}: {check.detail}" for check in self.checks if not check.is_good]
        return "\n".join(
            [
                *(f"- {name}: {_shown(value)}" for name, value in self.conditions.items()),
                f"- checks: {len(self.checks) - len(failed)} of {len(self.checks)} passed",
                *failed,
                *_table(self.attention),
                *_table(self.passes),
                "",
                *(f"- {note}" for note in self.notes),
                "",
            ]
        )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["", "| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return [*lines, *("| " + " | ".join(_shown(value) for value in row.values()) + " |" for row in rows)]


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


@dataclass(frozen=True)
class Bench:
    """What a run measures with."""

    device: torch.device
    dtype: torch.dtype
    make_attention: AttentionMaker
    record: Recorder
    bandwidth: float
    deadline: float
    num_passes: int

    def share_of_bandwidth(self, num_bytes: int, ms: float) -> float:
        return num_bytes / (ms / 1e3) / self.bandwidth


def measure_attention(bench: Bench, report: Report, sizes: list[PassSize], shape: LayerShape, num_layers: int) -> None:
    """One layer's attention alone, against the time that reading its keys and values takes."""
    for size, has_time in until(bench.deadline, sizes):
        if not has_time:
            report.note(f"attention, {size}: no time left")
            continue
        store = KvStore([shape] * num_layers, size.num_pages, PAGE_TOKENS)
        fill(store)
        num_heads = 4 * shape.num_heads
        ms = time_attention(store, size, bench.make_attention, bench.record, num_heads, bench.num_passes)
        num_bytes = size.batch * (size.context + size.num_nodes) * shape.num_bytes
        row = asdict(size) | {"attention us": ms * 1e3, "of bandwidth": bench.share_of_bandwidth(num_bytes, ms)}
        report.add_row(report.attention, row)
        del store


def measure_model(bench: Bench, report: Report, name: str, config: Any, sizes: list[PassSize]) -> None:
    """Whole passes of one model, recorded and not."""
    target = random_target(name, config, bench.dtype, bench.device)
    layers = layer_shapes(target)
    num_bytes_a_token = sum(layer.num_bytes for layer in layers)
    num_pages_left = int(_KV_SHARE * _left_bytes(bench.device)) // (num_bytes_a_token * PAGE_TOKENS)
    fitting = [size for size in sizes if size.num_pages < num_pages_left]
    for size in sizes:
        if size not in fitting:
            report.note(f"{name}, {size}: {size.num_pages} pages of KV cache do not fit, {num_pages_left} do")
    num_pages = max(size.num_pages for size in fitting)
    store = KvStore(layers, num_pages + 1, PAGE_TOKENS)
    fill(store)
    stopwatch = Stopwatch(bench.device)
    eager = PassRunner(target, store)
    begun = time.monotonic()
    graphs = GraphRunner(
        eager,
        target,
        store,
        bench.make_attention,
        scratch_page=num_pages,
        max_keys=max(size.context + size.num_nodes for size in fitting),
        max_tree_nodes=max(size.num_nodes for size in fitting),
        buckets=sorted({Bucket(size.num_rows, size.batch) for size in fitting}),
        record=stopwatch.around(bench.record),
    )
    report.note(f"{name}: {len(graphs.buckets)} passes recorded in {time.monotonic() - begun:.1f} s")
    for size, has_time in until(bench.deadline, fitting):
        if not has_time:
            report.note(f"{name}, {size}: no time left")
            continue
        stopwatch.read()
        recorded = time_passes(graphs, size, stopwatch if graphs.buckets else None, bench.num_passes)
        plain = time_passes(eager, size, None, max(2, bench.num_passes // 3))
        num_bytes = weight_bytes(target) + size.batch * (size.context + size.num_nodes) * num_bytes_a_token
        forward_ms = recorded.forward_ms or recorded.pass_ms
        row = {"model": name} | asdict(size)
        row |= {"pass ms": recorded.pass_ms, "forward ms": recorded.forward_ms}
        row |= {"outside ms": recorded.pass_ms - forward_ms, "not recorded ms": plain.pass_ms}
        row |= {"of bandwidth": bench.share_of_bandwidth(num_bytes, forward_ms), "peak GiB": _peak_gib(bench.device)}
        report.add_row(report.passes, row)


def _left_bytes(device: torch.device) -> int:
    gc.collect()
    if device.type != "cuda":
        return 2**28
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def _peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _sizes(*, is_dry: bool) -> Iterator[PassSize]:
    """The most telling ones first, in case time runs out."""
    for batch in (1, 2) if is_dry else (1, 8, 32):
        for context in (20, 40) if is_dry else (8192, 1024, 128):
            for num_nodes in (0, 4) if is_dry else (0, 16, 32, 64):
                yield PassSize(batch, context, num_nodes)


def _bench(device: torch.device, deadline: float, *, is_dry: bool) -> Bench:
    make_attention: AttentionMaker = PagedAttention
    if has_kernels(device):
        from verifier_service.triton_attention import TritonAttention  # Triton is not everywhere

        make_attention = TritonAttention
    return Bench(
        device=device,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        make_attention=make_attention,
        record=CudaGraphs(device) if device.type == "cuda" else lambda compute: compute,
        bandwidth=copy_bandwidth(device, 2**24 if is_dry else 2**31),
        deadline=deadline,
        num_passes=3 if is_dry else 20,
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder for gpu.json and gpu.md.")],
    dry_run: Annotated[bool, typer.Option(help="Tiny shapes, on a CPU where there is no GPU.")] = False,
    minutes: Annotated[float, typer.Option(help="Nothing is begun after that.")] = 8.0,
) -> None:
    """Check, measure, and write down."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not dry_run:
        raise typer.BadParameter("there is no CUDA device here; --dry-run goes without")
    bench = _bench(device, time.monotonic() + 60 * minutes, is_dry=dry_run)
    conditions = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU, dry run",
        "torch": torch.__version__,
        "attention": bench.make_attention.__name__,
        "copy bandwidth GB/s": bench.bandwidth / 1e9,
    }
    report = Report(out, conditions)
    sizes = list(_sizes(is_dry=dry_run))
    with torch.inference_mode():
        few = [PassSize(2, 30, 5)] if dry_run else [PassSize(1, 3000, 40), PassSize(5, 130, 20), PassSize(40, 70, 2)]
        for check in (*check_kernels(bench.make_attention, device, few), *check_models(bench.make_attention, device)):
            report.add_check(check)
        shape = LayerShape(2 if dry_run else 8, 16 if dry_run else 128, 16 if dry_run else 128, bench.dtype, device)
        long = [size for size in sizes if size.context == sizes[0].context]
        measure_attention(bench, report, long, shape, num_layers=2 if dry_run else 16)
        for name, config in (TINY if dry_run else LARGE).items():
            measure_model(bench, report, name, config, sizes)
            _left_bytes(device)  # gives the model's memory back before the next
    report.write()
    if not all(check.is_good for check in report.checks):
        raise typer.Exit(code=1)


if __name__ == "__main__":
    typer.run(main)
