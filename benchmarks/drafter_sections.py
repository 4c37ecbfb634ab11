"""What `benchmarks.drafter` measures, a function a section. A section gives rows, all with the same headings."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import fmean, median
from typing import Any

import psutil
import torch

from benchmarks.drafters import Drafter, LlamaOfTransformers, MambaOfTransformers, OurPool
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT, ROOT, DraftTree, TreeShape, chain

TREE, CHAIN = TreeShape((3, 2, 2, 1, 1)), chain(5)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CONTEXT_TOKENS, PREFILL_TOKENS = 128, 1024
CONCURRENCIES = (1, 2, 4, 8, 16)

MAX_SESSIONS = 24

_NUM_WARMUPS = 3
_NUM_ACCEPTED = 2

Row = dict[str, Any]
Timed = Callable[[], float]
"""Does something once and says how many seconds it took."""


@dataclass(frozen=True)
class Bench:
    """What one model is measured with.

    Attributes:
        folder: of the checkpoint.
        pool: ours, in bfloat16 as it is served.
        exact_pool: ours in float32.
        mambas: the same weights in transformers, by dtype.
        llamas: Llamas of the same size, by dtype.
        text: token ids, longer than the longest context.
        contexts: lengths, the shortest first.
    """

    folder: Path
    state_memory_mib: int
    pool: OurPool
    exact_pool: OurPool
    mambas: Mapping[str, Any]
    llamas: Mapping[str, Any]
    text: Sequence[int]
    contexts: Sequence[int]
    repetitions: int

    def context(self, num_tokens: int, start: int = 0) -> list[int]:
        return list(self.text[start : start + num_tokens])

    def fresh_pool(self) -> OurPool:
        return OurPool(self.folder, max_sessions=MAX_SESSIONS, state_memory_mib=self.state_memory_mib)


class Stream:
    """A drafter and the text that it goes along; every draft has its first path's first nodes accepted."""

    def __init__(self, drafter: Drafter, context: Sequence[int], bonus_ids: Sequence[int]) -> None:
        self.drafter = drafter
        self.committed: list[int] = list(context)
        self._bonus_ids = cycle(bonus_ids)

    def round(self, shape: TreeShape) -> float:
        """Commit, draft, and return the seconds of both."""
        begun = time.perf_counter()
        tree = self.drafter.draft(self.committed, shape)
        seconds = time.perf_counter() - begun
        self.accept(tree, shape)
        return seconds

    def accept(self, tree: DraftTree, shape: TreeShape) -> None:
        """Raises RuntimeError for a draft that is smaller than asked."""
        if tree.num_nodes != shape.num_nodes:
            raise RuntimeError(f"{shape} has {shape.num_nodes} nodes; {tree.num_nodes} were drafted")
        path = [tree.parents.index(ROOT)]
        while len(path) < _NUM_ACCEPTED:
            path.append(tree.parents.index(path[-1]))
        self.committed = [*(tree.token_ids[node] for node in path), next(self._bonus_ids)]


def in_turn(tasks: Mapping[str, Timed], repetitions: int, num_warmups: int = _NUM_WARMUPS) -> dict[str, list[float]]:
    """Seconds of every task; each repetition runs all in an order of its own.

    A task runs twice in a row and the second time counts, or it would pay for what the one before left in the caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    source = random.Random(0)
    for repetition in range(num_warmups + repetitions):
        for name in source.sample(list(tasks), len(tasks)):
            tasks[name]()
            found = tasks[name]()
            if repetition >= num_warmups:
                seconds[name].append(found)
    return seconds


def ratio(seconds: Sequence[float], base: Sequence[float]) -> float:
    return median(own / other for own, other in zip(seconds, base, strict=True))


def measure_rounds(bench: Bench) -> list[Row]:
    """One draft, after a context of a usual length."""
    rows: list[Row] = []
    for shape in (TREE, CHAIN):
        sessions = {
            "ours": bench.pool.session(),
            "ours, float32": bench.exact_pool.session(),
            "ours, temperature 1": bench.pool.session(SamplingParams(temperature=1.0, seed=7)),
        }
        drafters: dict[str, Drafter] = {**sessions}
        drafters |= {f"transformers Mamba, {name}": MambaOfTransformers(model) for name, model in bench.mambas.items()}
        if shape.is_chain:
            drafters |= {f"assisted Llama, {name}": LlamaOfTransformers(model) for name, model in bench.llamas.items()}
        streams = {
            name: Stream(drafter, bench.context(CONTEXT_TOKENS), bench.text[CONTEXT_TOKENS:])
            for name, drafter in drafters.items()
        }
        tasks = {name: partial(stream.round, shape) for name, stream in streams.items()}
        seconds = in_turn(tasks, bench.repetitions)
        rows += [
            {"draft": str(shape), "by": name, "ms": 1e3 * median(found), "over ours": ratio(found, seconds["ours"])}
            for name, found in seconds.items()
        ]
        for session in sessions.values():
            session.close()
    return rows


def measure_agreement(bench: Bench, num_contexts: int = 8) -> list[Row]:
    """Whether all compute the same: the share of a tree of transformers in float32 that others draw too.

    Ours in float32 has to. In bfloat16 it depends on the weights: random ones may blow rounding up beyond any use.
    """
    pools = {"ours, float32": bench.exact_pool, "ours, bfloat16": bench.pool}
    shares: dict[str, list[float]] = {name: [] for name in (*pools, "transformers Mamba, bfloat16")}
    for start in range(0, num_contexts * 50, 50):
        context = bench.context(CONTEXT_TOKENS, start)
        exact, rounded = (_paths(MambaOfTransformers(bench.mambas[dtype]).draft(context, TREE)) for dtype in DTYPES)
        shares["transformers Mamba, bfloat16"].append(len(exact & rounded) / len(exact))
        for name, pool in pools.items():
            session = pool.session()
            shares[name].append(len(exact & _paths(session.draft(context, TREE))) / len(exact))
            session.close()
    return [{"by": name, "nodes shared": f"{fmean(found):.0%}"} for name, found in shares.items()]


def _paths(tree: DraftTree) -> set[tuple[int, ...]]:
    return {tuple(tree.token_ids[step] for step in tree.ancestors(node)) for node in range(tree.num_nodes)}


def measure_batches(bench: Bench) -> list[Row]:
    """So many sessions drafted together, over one."""
    sessions = [bench.pool.session() for _ in range(max(CONCURRENCIES))]
    streams = [
        Stream(session, bench.context(CONTEXT_TOKENS, 7 * index), bench.text[CONTEXT_TOKENS:])
        for index, session in enumerate(sessions)
    ]

    def together(number: int, shape: TreeShape) -> float:
        committed = [stream.committed for stream in streams[:number]]
        begun = time.perf_counter()
        trees = bench.pool.draft_together(sessions[:number], committed, shape)
        seconds = time.perf_counter() - begun
        for stream, tree in zip(streams, trees, strict=False):
            stream.accept(tree, shape)
        return seconds

    rows: list[Row] = [{"sessions": number} for number in CONCURRENCIES]
    for shape in (TREE, CHAIN):
        tasks = {str(number): partial(together, number, shape) for number in CONCURRENCIES}
        seconds = in_turn(tasks, bench.repetitions)
        for row, found in zip(rows, seconds.values(), strict=True):
            row |= {f"{shape} ms": 1e3 * median(found), f"{shape} over one": ratio(found, seconds["1"])}
    for session in sessions:
        session.close()
    return rows


def measure_contexts(bench: Bench) -> list[Row]:
    """Time of a chain and memory of a session after contexts of all lengths."""
    sessions = [bench.pool.session() for _ in bench.contexts]
    drafters: dict[str, list[Any]] = {"ours": list(sessions)}
    drafters |= {name: [LlamaOfTransformers(model) for _ in bench.contexts] for name, model in bench.llamas.items()}
    tasks: dict[str, Timed] = {}
    rows: list[Row] = [{"context": length} for length in bench.contexts]
    kv_bytes: dict[str, int] = {}
    for name, group in drafters.items():
        for length, drafter in zip(bench.contexts, group, strict=True):
            stream = Stream(drafter, bench.context(length), bench.text)
            tasks[f"{name} {length}"] = partial(stream.round, CHAIN)
            stream.round(CHAIN)
            kv_bytes[f"{name} {length}"] = 0 if name == "ours" else drafter.kv_bytes
    seconds = in_turn(tasks, bench.repetitions)
    for session in sessions:
        session.close()
    for row, length in zip(rows, bench.contexts, strict=True):
        found = seconds[f"ours {length}"]
        row |= {"ours ms": 1e3 * median(found), "over first": ratio(found, seconds[f"ours {bench.contexts[0]}"])}
        row |= our_memory(bench, length)
        for name in bench.llamas:
            key = f"{name} {length}"
            row |= {f"Llama {name} ms": 1e3 * median(seconds[key]), f"KV {name} KiB": kv_bytes[key] / 1024}
    return rows


def our_memory(bench: Bench, num_tokens: int) -> Row:
    """What one more session takes, its tree's states included, in a pool that has computed before."""
    pool = bench.fresh_pool()
    warm = Stream(pool.session(), bench.context(PREFILL_TOKENS), bench.text)
    measured = Stream(pool.session(), bench.context(num_tokens), bench.text)
    warm.round(CHAIN)
    gc.collect()
    held_bytes, process_bytes = pool.held_bytes, _process_bytes()
    for _ in range(_NUM_WARMUPS):
        measured.round(CHAIN)
    row = {
        "slots KiB": (pool.held_bytes - held_bytes) / 1024,
        "process KiB": (_process_bytes() - process_bytes) / 1024,
    }
    pool.close()
    return row


def _process_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def measure_prefill(bench: Bench) -> list[Row]:
    """A context of a thousand tokens, up to the logits after it."""
    context = bench.context(PREFILL_TOKENS)

    def ours() -> float:
        session = bench.pool.session()
        begun = time.perf_counter()
        session.draft(context, NO_DRAFT)
        seconds = time.perf_counter() - begun
        session.close()
        return seconds

    def theirs(model: Any) -> float:
        begun = time.perf_counter()
        MambaOfTransformers(model).prefill(context)
        return time.perf_counter() - begun

    tasks: dict[str, Timed] = {"ours": ours}
    for name, model in bench.mambas.items():
        tasks[f"transformers Mamba, {name}"] = partial(theirs, model)
    seconds = in_turn(tasks, max(3, bench.repetitions // 5), num_warmups=1)
    return [
        {
            "by": name,
            "ms": 1e3 * median(found),
            "tokens/s": PREFILL_TOKENS / median(found),
            "over ours": ratio(found, seconds["ours"]),
        }
        for name, found in seconds.items()
    ]
