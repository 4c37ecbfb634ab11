"""Which type a model computes in."""

from __future__ import annotations

import torch


def torch_dtype(name: str, device: torch.device) -> torch.dtype:
    """By its name; `auto` is bfloat16 where the device multiplies in it, and else float32.

    On a processor without bfloat16 instructions its products are emulated, and slower than float32's.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type != "cpu":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    is_fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if is_fast else torch.float32
