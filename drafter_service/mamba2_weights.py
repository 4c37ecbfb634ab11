"""The layers of a Mamba-2 checkpoint, arranged as `drafter_service.mamba2` computes them."""

from __future__ import annotations

import math

import torch

from drafter_service.checkpoint import Checkpoint, LayerTensors
from drafter_service.convolution_weights import convolution_of
from drafter_service.group_norm import GroupNorm
from drafter_service.mamba2 import Mamba2Mixer
from drafter_service.projection import projection


def mamba2_mixers(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> tuple[Mamba2Mixer, ...]:
    """Raises ModelNotServable: a tensor is missing."""
    layers = (checkpoint.layer(index, device) for index in range(checkpoint.num_layers))
    return tuple(_mixer(tensors, checkpoint, dtype, device) for tensors in layers)


def _mixer(tensors: LayerTensors, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Mamba2Mixer:
    norm_weight, gated_norm_weight = tensors["norm.weight"], tensors["mixer.norm.weight"]
    width, num_groups = len(gated_norm_weight), checkpoint.num_groups
    decay_rates, skip = tensors["mixer.A_log"].exp(), tensors["mixer.D"]
    convolution = convolution_of(tensors)
    return Mamba2Mixer(
        project_in=projection(
            tensors["mixer.in_proj.weight"] * norm_weight * math.sqrt(len(norm_weight)),
            tensors.get("mixer.in_proj.bias"),
            dtype,
        ),
        convolution=convolution,
        time_step_bias=tensors["mixer.dt_bias"],
        time_step_limits=checkpoint.time_step_limits,
        log2_decay=-decay_rates * math.log2(math.e),
        skip=skip.repeat_interleave(width // len(skip)),  # saved by head, or by channel
        norm=GroupNorm.of(width, num_groups, checkpoint.norm_eps, device),
        project_out=projection(
            tensors["mixer.out_proj.weight"] * gated_norm_weight * math.sqrt(width // num_groups),
            tensors.get("mixer.out_proj.bias"),
            dtype,
        ),
        state_size=(convolution.width - width) // (2 * num_groups),
    )
