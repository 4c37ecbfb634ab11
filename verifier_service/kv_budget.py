"""How many tokens the KV cache holds where nobody says so: what a CPU is given, or what a device has left."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from verifier_service.kv_store import KvStore, LayerShape, tokens_for_bytes
from verifier_service.packing import PassLayout, Segment
from verifier_service.runner import PassRunner
from verifier_service.settings import VerifierSettings
from verifier_service.target import Target

_CPU_BYTES = 2**30


def kv_tokens(target: Target, layers: Sequence[LayerShape], settings: VerifierSettings) -> int:
    """As the settings say; where they do not, 1 GiB on a CPU and a share of what is left on CUDA.

    Layers on CUDA decide where there are any: a device has less memory than its host.
    """
    if settings.kv_tokens is not None:
        return settings.kv_tokens
    on_cuda = [layer for layer in layers if layer.device.type == "cuda"]
    if settings.kv_bytes is not None or not on_cuda:
        return tokens_for_bytes(layers, settings.kv_bytes or _CPU_BYTES)
    return tokens_for_share(on_cuda, measure_left_bytes(target, layers, settings), settings.kv_memory_share)


def tokens_for_share(layers: Sequence[LayerShape], left_bytes: Mapping[torch.device, int], share: float) -> int:
    """How many tokens fit in a share of every device's memory, each holding its own layers. Pure."""
    return min(
        tokens_for_bytes([layer for layer in layers if layer.device == device], int(share * max(0, num_bytes)))
        for device, num_bytes in left_bytes.items()
    )


def largest_pass(settings: VerifierSettings, max_context_tokens: int) -> PassLayout:
    """A pass of as many tokens as there may be in one, with as many logits as may be asked for. Pure."""
    num_rows = settings.max_pass_tokens
    num_choices = min(num_rows, settings.max_sessions * (settings.max_tree_nodes + 1))
    pages = tuple(range(-(-num_rows // settings.page_tokens)))
    return PassLayout(
        token_ids=np.zeros(num_rows, dtype=np.int64),
        positions=np.arange(num_rows) % max_context_tokens,
        logit_rows=np.arange(num_rows - num_choices, num_rows),
        segments=(Segment(0, num_rows, 0, num_rows, (), pages),),
        cleared=pages,
    )


def measure_left_bytes(
    target: Target, layers: Sequence[LayerShape], settings: VerifierSettings
) -> dict[torch.device, int]:
    """Memory of each CUDA device that neither the model nor its largest pass takes; found out by computing one.

    Recorded passes keep their memory to themselves, so with them the pass's is counted twice.
    """
    devices = {layer.device for layer in layers if layer.device.type == "cuda"}
    layout = largest_pass(settings, target.max_context_tokens)
    store = KvStore(layers, len(layout.cleared), settings.page_tokens)
    before = {}
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
        before[device] = torch.cuda.memory_allocated(device)
    PassRunner(target, store).run(layout)
    pass_bytes = {device: torch.cuda.max_memory_allocated(device) - before[device] for device in devices}
    del store
    gc.collect()
    torch.cuda.empty_cache()
    num_pools = 2 if settings.cuda_graphs else 1
    return {device: torch.cuda.mem_get_info(device)[0] - num_pools * pass_bytes[device] for device in devices}
