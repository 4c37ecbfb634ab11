"""The weights of a Mamba-1 checkpoint, arranged as the engine wants them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from draftpool.errors import ModelNotServable

Projection = Callable[[Tensor], Tensor]
"""(n, in) float32 to (n, out) float32."""

_BFLOAT16_MIN_WEIGHTS = 2**20
"""Smaller matrices stay in a core's cache, where float32 is the faster one for the few rows of a level."""


@dataclass(frozen=True)
class LayerWeights:
    """One Mamba block; D is d_inner, S the state size, R the rank of the time step, K the window of the convolution.

    The norm's weight and its sqrt(d_model) are folded into `project_in`, log2(e) into `log2_decay`.

    Attributes:
        project_in: d_model to 2 D: the convolution's input, then the gate.
        conv_taps: (K, D); row i weighs the token i steps back.
        conv_bias: (D,).
        select: (D, R + 2 S): the time step's low-rank form, B and C.
        time_step: (R, D), with its bias (D,) in `time_step_bias`.
        log2_decay: (S, D), negative: the state decays by 2 ** (time step * log2_decay).
        skip: (D,).
        project_out: (D, d_model).
    """

    project_in: Projection
    conv_taps: Tensor
    conv_bias: Tensor
    select: Tensor
    time_step: Tensor
    time_step_bias: Tensor
    log2_decay: Tensor
    skip: Tensor
    project_out: Tensor


@dataclass(frozen=True)
class MambaWeights:
    """A whole model.

    Attributes:
        embedding: (V, d_model) float32.
        layers: first to last.
        norm_eps: of every RMS norm; each is computed as x / sqrt(|x|² + d_model * norm_eps).
        head: d_model to V logits, the last norm folded in.
        num_parameters: as the checkpoint counts them.
        eos_token_ids: of the checkpoint's configuration.
    """

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm_eps: float
    head: Projection
    num_parameters: int
    eos_token_ids: tuple[int, ...]

    @property
    def vocab_size(self) -> int:
        return self.embedding.shape[0]

    @property
    def d_model(self) -> int:
        return self.embedding.shape[1]

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(layers, K + 1 + S, D): the numbers of one slot, as `drafter_service.mamba` lays them out."""
        window, width = self.layers[0].conv_taps.shape
        return len(self.layers), window + 1 + len(self.layers[0].log2_decay), width

    @property
    def slot_bytes(self) -> int:
        return 4 * math.prod(self.state_shape)


def load_mamba(model: str, *, dtype: torch.dtype, device: str) -> MambaWeights:
    """Load a checkpoint in the Hugging Face layout.

    Args:
        model: a folder or a hub id.
        dtype: of the large matrices; float32 or bfloat16. State and activations are float32 always: the state
            is where rounding would add up, and costs next to nothing at the width of a tree's level.

    Raises:
        ModelNotServable: not a Mamba-1 model, or a variant of it that is not built here.
    """
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ModelNotServable(f"cannot read a model from {model!r}: {error}") from error
    if config.model_type != "mamba":
        raise ModelNotServable(f"{model!r} is a {config.model_type!r} model; the drafter runs Mamba-1 ('mamba')")
    if config.hidden_act != "silu" or config.use_bias:
        raise ModelNotServable(f"{model!r}: only hidden_act 'silu' and use_bias false are supported")
    checkpoint = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tensors = {name: tensor.detach().to(device) for name, tensor in checkpoint.state_dict().items()}
    norm_scale = tensors["backbone.norm_f.weight"] * math.sqrt(config.hidden_size)
    return MambaWeights(
        embedding=tensors["backbone.embeddings.weight"],
        layers=tuple(
            _layer(
                {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)},
                dtype,
            )
            for prefix in (f"backbone.layers.{index}." for index in range(config.num_hidden_layers))
        ),
        norm_eps=config.layer_norm_epsilon,
        head=_projection(tensors["lm_head.weight"] * norm_scale, dtype),
        num_parameters=checkpoint.num_parameters(),
        eos_token_ids=_as_ids(config.eos_token_id),
    )


def _as_ids(configured: int | Sequence[int] | None) -> tuple[int, ...]:
    if configured is None:
        return ()
    return (configured,) if isinstance(configured, int) else tuple(configured)


def _layer(tensors: dict[str, Tensor], dtype: torch.dtype) -> LayerWeights:
    norm_weight = tensors["norm.weight"]
    taps = tensors["mixer.conv1d.weight"].squeeze(1)
    bias = tensors.get("mixer.conv1d.bias")
    return LayerWeights(
        project_in=_projection(tensors["mixer.in_proj.weight"] * norm_weight * math.sqrt(len(norm_weight)), dtype),
        conv_taps=taps.T.flip(0).contiguous(),
        conv_bias=torch.zeros_like(taps[:, 0]) if bias is None else bias,
        select=tensors["mixer.x_proj.weight"].T.contiguous(),
        time_step=tensors["mixer.dt_proj.weight"].T.contiguous(),
        time_step_bias=tensors["mixer.dt_proj.bias"],
        log2_decay=-tensors["mixer.A_log"].exp().T.contiguous() * math.log2(math.e),
        skip=tensors["mixer.D"],
        project_out=tensors["mixer.out_proj.weight"].T.contiguous(),
    )


def _projection(weight: Tensor, dtype: torch.dtype) -> Projection:
    """Multiply by an (out, in) matrix, each dtype in the layout that is fastest for few rows."""
    if dtype == torch.bfloat16 and weight.numel() >= _BFLOAT16_MIN_WEIGHTS:
        narrow = weight.bfloat16()
        return lambda rows: F.linear(rows.bfloat16(), narrow).float()
    transposed = weight.T.contiguous()
    return lambda rows: rows @ transposed
