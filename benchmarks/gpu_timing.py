"""How long passes take on a device, and how near that is to what its memory allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from benchmarks.gpu_shapes import PassSize
from draftpool.cuda_graphs import Pass, Recorder
from verifier_service.attention import AttentionOptions
from verifier_service.graphs import AttentionMaker
from verifier_service.kv_store import KvStore
from verifier_service.pass_tensors import PassTensors
from verifier_service.runner import Runner


class Stopwatch:
    """Milliseconds of calls on a device: its own clock on CUDA, the host's elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._ms: list[float] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def time(self, call: Callable[[], Tensor]) -> Tensor:
        if not self._is_cuda:
            begun = time.perf_counter()
            result = call()
            self._ms.append((time.perf_counter() - begun) * 1e3)
            return result
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        stop = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        result = call()
        stop.record()
        self._events.append((start, stop))
        return result

    def read(self) -> list[float]:
        """Of all calls since it was read last; waits for them."""
        if self._is_cuda:
            torch.cuda.synchronize()
        found = [*self._ms, *(start.elapsed_time(stop) for start, stop in self._events)]
        self._ms, self._events = [], []
        return found

    def around(self, record: Recorder) -> Recorder:
        """The same recorder, whose passes are timed."""

        def recorder(compute: Pass) -> Pass:
            replay = record(compute)
            return lambda: self.time(replay)

        return recorder


@dataclass(frozen=True)
class PassTime:
    """Medians over passes.

    Attributes:
        pass_ms: from the layout to the chosen tokens on the host.
        forward_ms: of it, the model's forward on the device; None where that was not timed.
    """

    pass_ms: float
    forward_ms: float | None


def time_passes(runner: Runner, size: PassSize, stopwatch: Stopwatch | None, num_passes: int) -> PassTime:
    """Compute the same pass over and over, choosing the likeliest tokens."""
    layout = size.layout()
    seconds = []
    for is_counted in (False, False, *[True] * num_passes):
        begun = time.perf_counter()
        runner.run(layout).argmax(dim=-1).cpu()
        if is_counted:
            seconds.append(time.perf_counter() - begun)
        elif stopwatch is not None:
            stopwatch.read()
    forward_ms = median(stopwatch.read()) if stopwatch is not None else None
    return PassTime(median(seconds) * 1e3, forward_ms)


def time_attention(
    store: KvStore, size: PassSize, make_attention: AttentionMaker, record: Recorder, num_heads: int, num_calls: int
) -> float:
    """Milliseconds of the attention of one layer, over as many layers as the store has, so that no cache helps."""
    device = store.keys[0].device
    num_kv_heads, _, dim = store.keys[0].shape
    tensors = PassTensors.of(size.layout(), store.page_tokens, device)
    query = torch.randn(1, num_heads, size.num_rows, dim, dtype=store.keys[0].dtype, device=device)
    new = query[:, :num_kv_heads]
    options = AttentionOptions(dim**-0.5)

    def attend_all() -> Tensor:
        attention = make_attention(store, tensors)
        outputs = [attention.attend(layer, query, new, new, options) for layer in range(len(store.keys))]
        return outputs[-1]

    replay = record(attend_all)
    replay()
    stopwatch = Stopwatch(device)
    for _ in range(num_calls):
        stopwatch.time(replay)
    return median(stopwatch.read()) / len(store.keys)


def copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes a second, read and written together, of a large copy: what memory gives in practice."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    stopwatch = Stopwatch(device)
    target.copy_(source)
    stopwatch.read()
    for _ in range(10):
        stopwatch.time(lambda: target.copy_(source))
    return 2 * num_bytes / (median(stopwatch.read()) / 1e3)


def until(deadline: float, sizes: list[PassSize]) -> Iterator[tuple[PassSize, bool]]:
    """Each size and whether there is still time for it; `deadline` as `time.monotonic` counts."""
    for size in sizes:
        yield size, time.monotonic() < deadline
