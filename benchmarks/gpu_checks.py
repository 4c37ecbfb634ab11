"""Whether a device computes what the plain code computes: kernels, recorded passes, trees, and nothing read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu_shapes import PAGE_TOKENS, TINY, PassSize, fill, random_target
from draftpool.errors import ModelNotServable
from verifier_service.attention import AttentionOptions
from verifier_service.buckets import Bucket
from verifier_service.fitness import check_trees, layer_shapes
from verifier_service.graphs import AttentionMaker, GraphRunner
from verifier_service.kv_store import KvStore, LayerShape
from verifier_service.paged_attention import PagedAttention
from verifier_service.pages import PagePool
from verifier_service.pass_tensors import PassTensors
from verifier_service.runner import PassRunner

_MAX_ERROR = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Of outputs near 1: a few units in the last place of their type."""


@dataclass(frozen=True)
class Check:
    """One comparison, and how far apart the two were."""

    name: str
    is_good: bool
    detail: str


def check_kernels(make_attention: AttentionMaker, device: torch.device, sizes: list[PassSize]) -> Iterator[Check]:
    """The kernels against the torch operators, in every type, with every option, whole and divided."""
    for dtype, limit in _MAX_ERROR.items():
        sinks = torch.linspace(-1, 1, 8, device=device).to(dtype)
        for options in (
            AttentionOptions(0.1),
            AttentionOptions(0.1, window=40),
            AttentionOptions(0.1, softcap=5.0),
            AttentionOptions(0.1, sinks=sinks),
        ):
            for size in sizes:
                worst = _kernel_error(make_attention, size, options, LayerShape(2, 64, 48, dtype, device))
                wanted = [name for name in ("window", "softcap", "sinks") if getattr(options, name) is not None]
                name = f"kernel, {dtype}, {size.batch} x {size.context} + {size.num_nodes}, {wanted or 'plain'}"
                yield Check(name, worst <= limit, f"largest difference {worst:.1e}")


def _kernel_error(
    make_attention: AttentionMaker, size: PassSize, options: AttentionOptions, shape: LayerShape
) -> float:
    torch.manual_seed(1)
    store = KvStore([shape], size.num_pages, PAGE_TOKENS)
    fill(store)
    kind: dict[str, Any] = {"dtype": shape.dtype, "device": shape.device}
    query = torch.randn(1, 8, size.num_rows, shape.key_dim, **kind)
    keys = torch.randn(1, 2, size.num_rows, shape.key_dim, **kind)
    values = torch.randn(1, 2, size.num_rows, shape.value_dim, **kind)
    tensors = PassTensors.of(size.layout(), PAGE_TOKENS, shape.device)
    found, expected = (
        make(store, tensors).attend(0, query, keys, values, options) for make in (make_attention, PagedAttention)
    )
    return float((found.float() - expected.float()).abs().max())


def check_models(make_attention: AttentionMaker, device: torch.device) -> Iterator[Check]:
    """Tiny models of several families: recorded passes against others, trees against paths."""
    sizes = [PassSize(1, 30, 0), PassSize(3, 50, 7), PassSize(2, 9, 20)]
    num_pages = max(size.num_pages for size in sizes)
    for name, config in TINY.items():
        target = random_target(name, config, torch.float32, device)
        store, other_store = (KvStore(layer_shapes(target), num_pages + 1, PAGE_TOKENS) for _ in range(2))
        pool = PagePool(num_pages, PAGE_TOKENS)
        eager = PassRunner(target, other_store)
        graphs = GraphRunner(
            PassRunner(target, store),
            target,
            store,
            make_attention,
            scratch_page=num_pages,
            max_keys=200,
            max_tree_nodes=64,
            buckets=[Bucket(8, 1), Bucket(32, 4), Bucket(64, 2)],
        )
        is_recorded = len(graphs.buckets) == 3
        yield Check(f"{name} is recorded", is_recorded, f"{len(graphs.buckets)} of 3 buckets")
        for size in sizes:
            for kept in (*store.keys, *store.values, *other_store.keys, *other_store.values):
                kept.zero_()
            with _reading_back_is_an_error(device):
                found, expected = graphs.run(size.layout()), eager.run(size.layout())
            error = float((found - expected).norm() / expected.norm())
            yield Check(f"{name}, recorded, {size.batch} x {size.num_nodes} nodes", error < 1e-4, f"{error:.1e}")
        for kind, runner in (("eager", eager), ("recorded", graphs)):
            try:
                check_trees(target, runner, pool)
                yield Check(f"{name}, {kind}: trees as their paths", True, "")
            except ModelNotServable as error:
                yield Check(f"{name}, {kind}: trees as their paths", False, str(error))


@contextmanager
def _reading_back_is_an_error(device: torch.device) -> Iterator[None]:
    """Let whatever makes the host wait for a CUDA device fail."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
