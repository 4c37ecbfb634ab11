"""The layers of a Mamba-1 checkpoint, arranged as `drafter_service.mamba.mamba1` computes them."""

from __future__ import annotations

import math

import torch

from drafter_service.mamba.checkpoint import Checkpoint, LayerTensors
from drafter_service.mamba.convolution_weights import convolution_of
from drafter_service.mamba.mamba1 import Mamba1Mixer
from drafter_service.mamba.mamba1_buffers import Mamba1Buffers
from drafter_service.mamba.projection import projection
from drafter_service.mamba.selective_scan import SelectiveScan


def mamba1_mixers(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> tuple[Mamba1Mixer, ...]:
    """Raises ModelNotServable: a tensor is missing."""
    width, state_size = checkpoint.tensor("backbone.layers.0.mixer.A_log", "cpu").shape
    time_step_rank = checkpoint.tensor("backbone.layers.0.mixer.dt_proj.weight", "cpu").shape[1]
    buffers = Mamba1Buffers(width, state_size, time_step_rank, device)
    scan = SelectiveScan(state_size, width, device)
    layers = (checkpoint.layer(index, device) for index in range(checkpoint.num_layers))
    return tuple(_mixer(tensors, buffers, scan, dtype) for tensors in layers)


def _mixer(tensors: LayerTensors, buffers: Mamba1Buffers, scan: SelectiveScan, dtype: torch.dtype) -> Mamba1Mixer:
    norm_weight = tensors["norm.weight"]
    return Mamba1Mixer(
        project_in=projection(
            tensors["mixer.in_proj.weight"] * norm_weight * math.sqrt(len(norm_weight)),
            tensors.get("mixer.in_proj.bias"),
            dtype,
        ),
        convolution=convolution_of(tensors),
        project_selection=projection(tensors["mixer.x_proj.weight"], None, torch.float32),
        time_step=projection(tensors["mixer.dt_proj.weight"], tensors["mixer.dt_proj.bias"], torch.float32),
        log2_decay=-tensors["mixer.A_log"].exp().T.contiguous() * math.log2(math.e),
        skip=tensors["mixer.D"],
        project_out=projection(tensors["mixer.out_proj.weight"], tensors.get("mixer.out_proj.bias"), dtype),
        buffers=buffers,
        scan=scan,
    )
