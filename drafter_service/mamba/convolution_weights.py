"""A layer's convolution as saved, arranged as `drafter_service.mamba.convolution` computes it."""

from __future__ import annotations

import torch

from drafter_service.mamba.checkpoint import LayerTensors
from drafter_service.mamba.convolution import Convolution


def convolution_of(tensors: LayerTensors) -> Convolution:
    """Raises ModelNotServable: the layer has none."""
    taps = tensors["mixer.conv1d.weight"].squeeze(1)
    bias = tensors.get("mixer.conv1d.bias")
    return Convolution(taps.T.flip(0).contiguous(), torch.zeros_like(taps[:, 0]) if bias is None else bias)
