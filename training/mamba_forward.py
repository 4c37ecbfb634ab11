"""Mamba-1's forward pass over a `MambaForCausalLM`'s own parameters, built on `training.scan`.

Because the parameters stay the model's, what is trained here is saved by `save_pretrained` and served by Transformers.

Source: Mamba, arXiv:2312.00752, algorithm 2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.scan import linear_scan


def mamba_logits(model: Any, token_ids: Tensor) -> Tensor:
    """The logits of whole sequences, from a zero state.

    Args:
        model: a `MambaForCausalLM`.
        token_ids: (batch, length) int64.

    Returns:
        (batch, length, vocabulary).
    """
    residual = model.backbone.embeddings(token_ids)
    for block in model.backbone.layers:
        residual = residual + mix(block.mixer, block.norm(residual))
    logits: Tensor = model.lm_head(model.backbone.norm_f(residual))
    return logits


def mix(mixer: Any, hidden: Tensor) -> Tensor:
    """One Mamba mixer.

    Args:
        mixer: a `MambaMixer` with D inner channels.
        hidden: (batch, length, width).

    Returns:
        (batch, length, width).
    """
    length = hidden.shape[1]
    channels, gate = mixer.in_proj(hidden).chunk(2, dim=-1)
    convolved = mixer.conv1d(channels.transpose(1, 2))[..., :length].transpose(1, 2)
    channels = F.silu(convolved)
    mixed = select(mixer, channels) + channels * mixer.D
    output: Tensor = mixer.out_proj(mixed * F.silu(gate))
    return output


def select(mixer: Any, channels: Tensor) -> Tensor:
    """The selective state space: every channel's states decay and are written and read as the token decides.

    Args:
        mixer: a `MambaMixer` with D inner channels, each with N states.
        channels: (batch, length, D).

    Returns:
        (batch, length, D).
    """
    projected = mixer.x_proj(channels)
    step_ranks, writes, reads = projected.split(
        [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size], dim=-1
    )
    steps = F.softplus(mixer.dt_proj(step_ranks).float()).transpose(0, 1)  # (length, batch, D)
    # Time first, channels last: a time step is one contiguous slab, and the state axis broadcasts over channels.
    rates = -torch.exp(mixer.A_log.float()).t()  # (N, D)
    decays = torch.exp(steps.unsqueeze(2) * rates)  # (length, batch, N, D)
    writes = writes.float().transpose(0, 1).unsqueeze(-1)
    inputs = (steps * channels.float().transpose(0, 1)).unsqueeze(2) * writes
    states = linear_scan(decays, inputs)
    reads = reads.float().transpose(0, 1).unsqueeze(2)  # (length, batch, 1, N)
    with torch.autocast("cpu", enabled=False):
        read: Tensor = (reads @ states).squeeze(2)
    return read.transpose(0, 1)
