"""Drafter, verifier and orchestrator on hosts that are really apart: same tokens, partitions, and when it is worth it.

Services are processes in network namespaces of their own, with a wire of any length between them (`benchmarks.hosts`).

- Distance: one request at a time with the drafter, then the verifier, ever farther away.
- Partitions: a service cannot be reached for some seconds, in the middle of generation, and then can again.
- Capacity: the clients that one verifier serves, with the drafter remote, co-located or not used.

As root, on a machine with two cores or more:

    python -m benchmarks.apart --prompts gsm8k.jsonl --json apart.json --plot remote_drafter.svg
    python -m benchmarks.apart --from-json apart.json --plot remote_drafter.svg    # tables and plot again
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.apart_capacity import Cell, measure_capacity
from benchmarks.apart_distance import DistanceRow, distance_table, measure_distances
from benchmarks.apart_partition import PartitionRow, measure_partitions, partition_table
from benchmarks.apart_prediction import capacity_table, gain_table, service_times_ms
from benchmarks.prompts import load_prompts

SECTIONS = ("distance", "partition", "capacity")


@dataclass
class Measured:
    """Everything, as it is kept in the JSON file; sections that were not asked for are empty."""

    conditions: dict[str, str] = field(default_factory=dict)
    distance: list[DistanceRow] = field(default_factory=list)
    partition: list[PartitionRow] = field(default_factory=list)
    capacity: list[Cell] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Measured:
        kept = json.loads(path.read_text())
        return cls(
            kept["conditions"],
            [DistanceRow(**row) for row in kept["distance"]],
            [PartitionRow(**row) for row in kept["partition"]],
            [Cell(**cell) for cell in kept["capacity"]],
        )

    def write(self, path: Path | None) -> None:
        """After each section, so that a run that is ended leaves what it has."""
        if path is not None:
            path.write_text(json.dumps(asdict(self), indent=1))

    def markdown(self) -> str:
        parts = [", ".join(f"{key}: {value}" for key, value in self.conditions.items())]
        if self.distance:
            parts.append(markdown(distance_table(self.distance)))
        if self.partition:
            parts.append(markdown(partition_table(self.partition)))
        if self.capacity:
            draft_ms, verify_ms = service_times_ms(self.capacity)
            parts.append(markdown(capacity_table(self.capacity)))
            parts.append(
                f"t_draft = {draft_ms:.2f} ms, t_verify = {verify_ms:.2f} ms: predicted 1 + t_draft / t_verify = "
                f"{1 + draft_ms / verify_ms:.2f}"
            )
            parts.append(markdown(gain_table(self.capacity)))
        return "\n\n".join(parts)


def markdown(table: Sequence[Sequence[str]]) -> str:
    heading, *rows = table
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def conditions() -> dict[str, str]:
    """What the figures depend on, and nobody can see in them."""
    return {
        "date": time.strftime("%d %B %Y"),
        "machine": f"{os.cpu_count()} cores of {_cpu_name()}",
        "system": f"Linux {platform.release().split('-')[0]}, CPython {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    num_prompts: Annotated[int, typer.Option(help="Of the distance measurement.")] = 12,
    max_new_tokens: Annotated[int, typer.Option(help="Of every request.")] = 64,
    clients: Annotated[
        list[int] | None, typer.Option(help="Numbers of clients.", show_default="1, 2, 4, 8, 16")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of each cell of the capacity measurement.")] = 4.0,
    repetitions: Annotated[int, typer.Option(help="Of each cut and each cell.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SECTIONS)}.", show_default="all")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Keep everything measured in this file.")] = None,
    from_json: Annotated[Path | None, typer.Option(help="Measure nothing: read such a file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the capacities into this file, .svg or .png.")] = None,
) -> None:
    """Measure, print the tables in Markdown and draw the plot."""
    measured = Measured(conditions()) if from_json is None else Measured.read(from_json)
    wanted = () if from_json is not None else only or SECTIONS
    texts = load_prompts(prompts, 64)
    if "distance" in wanted:
        measured.distance = asyncio.run(measure_distances(texts[:num_prompts], max_new_tokens))
        measured.write(json_path)
    if "partition" in wanted:
        measured.partition = asyncio.run(measure_partitions(texts, repetitions))
        measured.write(json_path)
    if "capacity" in wanted:
        numbers = clients or [1, 2, 4, 8, 16]
        run = measure_capacity(texts, max_new_tokens, clients=numbers, seconds=seconds, repetitions=repetitions)
        measured.capacity = asyncio.run(run)
        measured.write(json_path)
    print(measured.markdown())
    for row in measured.partition:
        for failure in row.failures:
            print(f"{row.victim}: {failure}", file=sys.stderr)
    if plot is not None:
        from benchmarks.apart_plot import draw  # matplotlib is needed for this alone

        draw(measured.capacity, plot)


if __name__ == "__main__":
    typer.run(main)
