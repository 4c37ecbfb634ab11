"""The capacity measurement as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.apart_capacity import CO_LOCATED, OFF, REMOTE, SHAPES, Cell
from benchmarks.apart_prediction import CHAIN, curves, gains, service_times_ms

_GREY, _ORANGE = "#6b6b6b", "#d9660a"
_BLUES = ("#08306b", "#2171b5", "#6baed6", "#abd0e6")
"""Of remote drafters, the farther the paler."""
_INK, _GRID = "#222222", "#e3e3e3"
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "svg.hashsalt": "draftpool",  # the same figures make the same file
}


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Throughput by the number of clients, a panel a shape; remote over co-located beside its prediction."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        *panels, last = figure.subplots(1, len(SHAPES) + 1)
        for panel, shape in zip(panels, SHAPES, strict=True):
            _draw_throughput(panel, cells, shape)
            panel.sharey(panels[0])
        panels[0].set_ylabel("tokens/s, all clients together")
        _draw_gain(last, cells)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, facecolor="white", metadata=metadata)


def _draw_throughput(axes: Axes, cells: Sequence[Cell], shape: str) -> None:
    by = curves(cells)
    lines = [((OFF, OFF), "no draft", _GREY, "--", "s"), ((shape, CO_LOCATED.name), "co-located", _ORANGE, "-", "D")]
    for place, colour in zip(REMOTE, _BLUES, strict=True):
        lines.append(((shape, place.name), f"remote, {place.round_trip_ms:g} ms", colour, "-", "o"))
    for key, label, colour, line, marker in lines:
        axes.plot(*_points(by[key]), line, color=colour, marker=marker, markersize=4.5, linewidth=1.7, label=label)
    axes.set_title(f"Drafting: {shape}")
    axes.set_ylim(bottom=0)
    _finish(axes, list(by[OFF, OFF]))


def _draw_gain(axes: Axes, cells: Sequence[Cell]) -> None:
    found = gains(cells)
    draft_ms, verify_ms = service_times_ms(cells)
    alone = 1 + draft_ms / verify_ms
    numbers = [gain.num_clients for gain in found]
    measured, computed = [gain.measured for gain in found], [gain.per_computed_s for gain in found]
    predicted = [gain.predicted for gain in found]
    axes.axhline(1, color=_GREY, linewidth=1)
    axes.plot(numbers, measured, color=_BLUES[0], marker="o", markersize=4.5, label="measured, tokens/s")
    axes.plot(numbers, computed, color=_BLUES[2], marker="o", markersize=4.5, label="measured, by time computed")
    axes.plot(numbers, predicted, ":", color=_ORANGE, linewidth=2, label="predicted, by time computed")
    axes.axhline(alone, color=_ORANGE, linewidth=1.2, label=f"predicted, 1 + t_draft / t_verify = {alone:.2f}")
    axes.set_title(f"Remote over co-located, {CHAIN}")
    axes.set_ylabel("times co-located, no distance")
    shown = [1.0, alone, *measured, *computed, *predicted]
    axes.set_ylim(min(0.9, min(shown) - 0.05), 1 + 1.5 * (max(shown) - 1))
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)
    _finish(axes, numbers)


def _points(curve: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(curve), list(curve.values())


def _finish(axes: Axes, numbers: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel("clients at the same time")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
