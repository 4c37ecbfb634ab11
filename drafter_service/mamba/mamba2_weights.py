"""The layers of a Mamba-2 checkpoint, arranged as `drafter_service.mamba.mamba2` computes them."""

from __future__ import annotations

import math

import torch

from drafter_service.mamba.checkpoint import Checkpoint, LayerTensors
from drafter_service.mamba.convolution_weights import convolution_of
from drafter_service.mamba.group_norm import GroupNorm
from drafter_service.mamba.mamba2 import Mamba2Mixer
from drafter_service.mamba.mamba2_buffers import Mamba2Buffers, Mamba2Shape
from drafter_service.mamba.projection import projection


def mamba2_mixers(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> tuple[Mamba2Mixer, ...]:
    """Raises ModelNotServable: a tensor is missing."""
    shape = _shape(checkpoint)
    buffers = Mamba2Buffers(shape, device)
    norm = GroupNorm.of(shape.width, shape.num_groups, checkpoint.norm_eps, device)
    limits = checkpoint.time_step_limits
    layers = (checkpoint.layer(index, device) for index in range(checkpoint.num_layers))
    return tuple(_mixer(tensors, buffers, norm, limits, dtype) for tensors in layers)


def _shape(checkpoint: Checkpoint) -> Mamba2Shape:
    tensors = checkpoint.layer(0, "cpu")
    width, num_groups = len(tensors["mixer.norm.weight"]), checkpoint.num_groups
    state_size = (len(tensors["mixer.conv1d.weight"]) - width) // (2 * num_groups)
    return Mamba2Shape(width, len(tensors["mixer.A_log"]), num_groups, state_size)


def _mixer(
    tensors: LayerTensors,
    buffers: Mamba2Buffers,
    norm: GroupNorm,
    time_step_limits: tuple[float, float] | None,
    dtype: torch.dtype,
) -> Mamba2Mixer:
    norm_weight, gated_norm_weight = tensors["norm.weight"], tensors["mixer.norm.weight"]
    decay_rates, skip = tensors["mixer.A_log"].exp(), tensors["mixer.D"]
    return Mamba2Mixer(
        project_in=projection(
            tensors["mixer.in_proj.weight"] * norm_weight * math.sqrt(len(norm_weight)),
            tensors.get("mixer.in_proj.bias"),
            dtype,
        ),
        convolution=convolution_of(tensors),
        time_step_bias=tensors["mixer.dt_bias"],
        time_step_limits=time_step_limits,
        log2_decay=-decay_rates * math.log2(math.e),
        skip=skip.repeat_interleave(buffers.shape.width // len(skip)),  # saved by head, or by channel
        norm=norm,
        project_out=projection(
            tensors["mixer.out_proj.weight"] * gated_norm_weight * math.sqrt(norm.group_width),
            tensors.get("mixer.out_proj.bias"),
            dtype,
        ),
        shape=buffers.shape,
        buffers=buffers,
    )
