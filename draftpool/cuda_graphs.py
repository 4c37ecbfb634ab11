"""Computations recorded once and replayed: on CUDA a small one takes longer to launch than to compute."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pass = Callable[[], Tensor]
"""Computes what lies in its memory and returns a tensor, which the next call overwrites."""

Recorder = Callable[[Pass], Pass]
"""Makes a pass quick to repeat."""


class CudaGraphs:
    """Records passes as CUDA graphs that share their memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Pass) -> Pass:
        # Kernels are compiled and workspaces allocated on a first call, which a recording must not do.
        stream: torch.cuda.Stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool=self._pool):
            result = compute()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def as_it_is(compute: Pass) -> Pass:
    """A recorder that records nothing."""
    return compute
