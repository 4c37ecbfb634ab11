"""From the host's memory to a device's."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; by way of pinned memory to CUDA, for a copy from other memory waits for the device."""
    return pinned_for(tensor, device).to(device, non_blocking=device.type == "cuda")


def pinned_for(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor that can be copied to `device` without waiting for it."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
