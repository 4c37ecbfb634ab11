"""What the cells of the capacity measurement add up to. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from benchmarks.apart_capacity import CO_LOCATED, NUM_LEVELS, OFF, REMOTE, SHAPES, Cell

CHAIN = f"chain of {NUM_LEVELS}"
FLOOR_SHARES = (1.0, 0.75, 0.5, 0.25)
"""Of what a client gets that is alone and does not draft."""

Curve = dict[int, float]
"""Tokens a second of all clients together, by their number."""


@dataclass(frozen=True)
class Gain:
    """What a remote drafter brings over a co-located one, by the number of clients, predicted and measured.

    Attributes:
        predicted: 1 + what the drafter computed over what the verifier computed, with the drafter remote.
        measured: ratio of the tokens a second.
        per_computed_s: ratio of the tokens per second that models computed on the verifier's core.
    """

    num_clients: int
    predicted: float
    measured: float
    per_computed_s: float


def curves(cells: Sequence[Cell]) -> dict[tuple[str, str], Curve]:
    """By shape and placement; medians over the repetitions. `no draft` is both of its names."""
    speeds: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        speeds[cell.shape, cell.placement][cell.num_clients].append(cell.tokens_per_s)
    return {key: {num: median(values) for num, values in sorted(by.items())} for key, by in speeds.items()}


def capacity(curve: Mapping[int, float], floor: float) -> float:
    """The largest number of clients of whom each still gets `floor` tokens a second.

    Between two numbers that were measured, what one client gets is taken to fall linearly. 0 where even one client
    gets less; infinite where the most that were measured get more.
    """
    each = {num: total / num for num, total in sorted(curve.items())}
    if next(iter(each.values())) < floor:
        return 0.0
    for (fewer, faster), (more, slower) in pairwise(each.items()):
        if slower < floor:
            return fewer + (more - fewer) * (faster - floor) / (faster - slower)
    return float("inf")


def capacities(cells: Sequence[Cell]) -> dict[tuple[str, str], list[float]]:
    """By shape and placement, one for each of FLOOR_SHARES."""
    by = curves(cells)
    alone = by[OFF, OFF][1]
    return {key: [capacity(curve, share * alone) for share in FLOOR_SHARES] for key, curve in by.items()}


def gains(cells: Sequence[Cell], shape: str = CHAIN) -> list[Gain]:
    """At no distance, for every number of clients."""
    by = curves(cells)
    remote, co_located = by[shape, REMOTE[0].name], by[shape, CO_LOCATED.name]
    found = []
    for num in remote:
        apart, together = (_chosen(cells, shape, place, num) for place in (REMOTE[0].name, CO_LOCATED.name))
        predicted = 1 + median(cell.busy["drafter"] / cell.busy["verifier"] for cell in apart)
        computed = [median(cell.tokens_per_computed_s for cell in group) for group in (apart, together)]
        found.append(Gain(num, predicted, remote[num] / co_located[num], computed[0] / computed[1]))
    return found


def service_times_ms(cells: Sequence[Cell]) -> tuple[float, float]:
    """t_draft and t_verify of a chain, in ms: with one client, so that nobody queues."""
    alone = [cell for cell in _chosen(cells, CHAIN, REMOTE[0].name, 1) if cell.num_drafted_rounds]
    return median(cell.draft_us for cell in alone) / 1000, median(cell.verify_us for cell in alone) / 1000


def capacity_table(cells: Sequence[Cell]) -> list[list[str]]:
    """Cells of a table, its heading first."""
    by, held = curves(cells), capacities(cells)
    numbers = list(by[OFF, OFF])
    heading = ["drafting", "drafter", *(f"{num} client{'s' if num > 1 else ''}" for num in numbers)]
    heading += [f"clients at {share:.0%}" for share in FLOOR_SHARES]
    order = [(OFF, OFF), *((shape, place.name) for shape in SHAPES for place in (CO_LOCATED, *REMOTE))]
    return [heading] + [
        [shape, "" if place == OFF else place, *(f"{by[shape, place][num]:.0f}" for num in numbers)]
        + [_clients(number, max(numbers)) for number in held[shape, place]]
        for shape, place in order
    ]


def gain_table(cells: Sequence[Cell]) -> list[list[str]]:
    """Cells of a table, its heading first; shares of a core are those of the remote placement at no distance."""
    heading = [
        "clients",
        "verifier busy",
        "drafter busy",
        "rest of core 1",
        "predicted",
        "measured",
        "by time computed",
    ]
    return [heading] + [
        [
            *(str(gain.num_clients), *_busy(cells, gain.num_clients)),
            *(f"{gain.predicted:.2f}", f"{gain.measured:.2f}", f"{gain.per_computed_s:.2f}"),
        ]
        for gain in gains(cells)
    ]


def _busy(cells: Sequence[Cell], num_clients: int) -> list[str]:
    shown = _chosen(cells, CHAIN, REMOTE[0].name, num_clients)
    verifier, drafter = (median(cell.busy[name] for cell in shown) for name in ("verifier", "drafter"))
    rest = median(sum(cell.busy[name] for name in ("orchestrator", "clients", "wire")) for cell in shown)
    return [f"{share:.0%}" for share in (verifier, drafter, rest)]


def _chosen(cells: Sequence[Cell], shape: str, placement: str, num_clients: int) -> list[Cell]:
    wanted = (shape, placement, num_clients)
    return [cell for cell in cells if (cell.shape, cell.placement, cell.num_clients) == wanted]


def _clients(number: float, most: int) -> str:
    return f"over {most}" if number == float("inf") else f"{number:.1f}"
