"""Tiny Mambas of random weights, written to disk in either layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedModel

VOCAB_SIZE = 320
PADDED_ROWS = 384

MAMBA1 = MambaConfig(vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2, state_size=4, initializer_range=0.5)
MAMBA1_WITH_BIAS = MambaConfig(**MAMBA1.to_dict() | {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3})
MAMBA2 = Mamba2Config(
    vocab_size=VOCAB_SIZE,
    hidden_size=16,
    num_hidden_layers=2,
    state_size=8,
    num_heads=4,
    head_dim=8,
    n_groups=1,
    initializer_range=0.5,
    chunk_size=32,
    tie_word_embeddings=True,
)
MAMBA2_IN_GROUPS = Mamba2Config(
    **MAMBA2.to_dict() | {"n_groups": 2, "use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False}
)
CONFIGS = {"mamba1": MAMBA1, "mamba1 biased": MAMBA1_WITH_BIAS, "mamba2": MAMBA2, "mamba2 in groups": MAMBA2_IN_GROUPS}


def random_model(config: MambaConfig | Mamba2Config) -> PreTrainedModel:
    """A model as transformers has it. As initialised, norms are ones and biases zero: too kind to the code."""
    torch.manual_seed(7)
    model = MambaForCausalLM(config) if isinstance(config, MambaConfig) else Mamba2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith((".bias", ".D", "dt_bias", "A_log")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def write_original(model: PreTrainedModel, folder: Path, *, as_safetensors: bool = False, **changes: Any) -> None:
    """Write what mamba_ssm would have: its names, its configuration, its padded vocabulary.

    Args:
        changes: to the configuration.
    """
    config = model.config
    tensors = {name.replace("embeddings.", "embedding."): tensor for name, tensor in model.state_dict().items()}
    tensors["backbone.embedding.weight"] = _padded(tensors["backbone.embedding.weight"])
    tensors["lm_head.weight"] = _padded(tensors["lm_head.weight"])
    ssm_config = {"d_state": config.state_size, "conv_bias": config.use_conv_bias, "bias": config.use_bias}
    if isinstance(config, Mamba2Config):
        ssm_config |= {"layer": "Mamba2", "headdim": config.head_dim, "ngroups": config.n_groups}
    original = {
        "d_model": config.hidden_size,
        "d_intermediate": 0,
        "n_layer": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "ssm_cfg": ssm_config,
        "attn_layer_idx": [],
        "attn_cfg": {},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": PADDED_ROWS,
        "tie_embeddings": config.tie_word_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(original | changes))
    if as_safetensors:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")


def _padded(rows: Tensor) -> Tensor:
    """What pads a vocabulary would win every choice, if it were looked at."""
    return torch.cat([rows, torch.full((PADDED_ROWS - len(rows), rows.shape[1]), 100.0)])
