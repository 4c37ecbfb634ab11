"""The same requests with a service ever farther away: are the tokens the same, and how fast do they come?"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.hosts import round_trip_ms, stack_apart
from draftpool.cli.plan import StackPlan
from draftpool.client import NO_DRAFT, Client, Completion, TreePolicy
from draftpool.tree import chain

TARGET = "tiny-llama"
DRAFTER, VERIFIER = "drafter", f"verifier {TARGET}"
ROUND_TRIPS_MS = (0.0, 2.0, 10.0, 50.0)
WAYS: dict[str, TreePolicy | None] = {"no draft": NO_DRAFT, "chain of 4": chain(4), "bandit": None}
_NUM_WARMUPS = 3


@dataclass(frozen=True)
class DistanceRow:
    """One way of drafting at one distance; medians over prompts, as the caller sees them.

    Attributes:
        far: the service that is far away, from all others.
        measured_ms: the round trip as TCP found it, in ms.
        over_no_draft: of the same prompt at the same distance.
        num_equal: prompts whose tokens are those of no draft and no distance.
    """

    far: str
    round_trip_ms: float
    measured_ms: float
    way: str
    tokens_per_s: float
    over_no_draft: float
    tokens_per_pass: float
    num_equal: int
    num_prompts: int


@dataclass
class _Seen:
    tokens_per_s: list[float] = field(default_factory=list)
    tokens_per_pass: list[float] = field(default_factory=list)
    texts: list[tuple[int, ...]] = field(default_factory=list)


async def measure_distances(prompts: Sequence[str], max_new_tokens: int) -> list[DistanceRow]:
    """Drafter and verifier far away in turn, at every round trip; greedy and sampled prompts alternate, in float32."""
    plan = StackPlan(targets=(TARGET,), dtype="float32", has_redis=False)
    rows: list[DistanceRow] = []
    async with stack_apart(plan) as (hosts, stack), Client(stack.orchestrator) as client:
        known = [(await _ask(client, index, prompts, max_new_tokens, NO_DRAFT)).token_ids for index in _all(prompts)]
        for far in (DRAFTER, VERIFIER):
            for distance_ms in ROUND_TRIPS_MS:
                hosts.connect(far, round_trip_ms=distance_ms)
                measured_ms = await round_trip_ms(stack.services[far].address)
                seen = await _measure(client, prompts, max_new_tokens)
                rows += _rows(far, distance_ms, measured_ms, seen, known)
                print(f"{far} at {distance_ms:g} ms is measured", file=sys.stderr)
            hosts.connect(far)
    return rows


async def _measure(client: Client, prompts: Sequence[str], max_new_tokens: int) -> dict[str, _Seen]:
    """All ways on each prompt in turn; the bandit gets to know the distance before anything counts."""
    for index in range(min(_NUM_WARMUPS, len(prompts))):
        await _ask(client, index, prompts, max_new_tokens, None)
    seen: dict[str, _Seen] = defaultdict(_Seen)
    for index in _all(prompts):
        for way, drafting in WAYS.items():
            begin = time.perf_counter()
            completion = await _ask(client, index, prompts, max_new_tokens, drafting)
            seen[way].tokens_per_s.append(len(completion.tokens) / (time.perf_counter() - begin))
            seen[way].tokens_per_pass.append(completion.finish.usage.tokens_per_pass)
            seen[way].texts.append(completion.token_ids)
    return seen


async def _ask(
    client: Client, index: int, prompts: Sequence[str], max_new_tokens: int, drafting: TreePolicy | None
) -> Completion:
    return await client.complete(
        TARGET,
        prompts[index],
        max_new_tokens=max_new_tokens,
        temperature=index % 2,
        seed=index,
        ignore_eos=True,
        drafting=drafting,
    )


def _all(prompts: Sequence[str]) -> range:
    return range(len(prompts))


def _rows(
    far: str, distance_ms: float, measured_ms: float, seen: dict[str, _Seen], known: Sequence[tuple[int, ...]]
) -> list[DistanceRow]:
    plain = seen["no draft"].tokens_per_s
    return [
        DistanceRow(
            far=far,
            round_trip_ms=distance_ms,
            measured_ms=measured_ms,
            way=way,
            tokens_per_s=median(result.tokens_per_s),
            over_no_draft=median(ours / theirs for ours, theirs in zip(result.tokens_per_s, plain, strict=True)),
            tokens_per_pass=sum(result.tokens_per_pass) / len(result.tokens_per_pass),
            num_equal=sum(ours == theirs for ours, theirs in zip(result.texts, known, strict=True)),
            num_prompts=len(known),
        )
        for way, result in seen.items()
    ]


def distance_table(rows: Sequence[DistanceRow]) -> list[list[str]]:
    """Cells of a table, its heading first."""
    heading = [
        "far away",
        "round trip",
        "by TCP",
        "drafting",
        "tokens/s",
        "times no draft",
        "tokens/pass",
        "same tokens",
    ]
    return [heading] + [
        [
            row.far.partition(" ")[0],
            f"{row.round_trip_ms:g} ms",
            f"{row.measured_ms:.1f} ms",
            row.way,
            *(f"{row.tokens_per_s:.0f}", f"{row.over_no_draft:.2f}", f"{row.tokens_per_pass:.2f}"),
            f"{row.num_equal} of {row.num_prompts}",
        ]
        for row in rows
    ]
