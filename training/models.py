"""Making, loading and computing with the embedded models: every call into Transformers' model classes is here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from training.architectures import Architecture
from training.bpe import END_OF_TEXT_ID
from training.mamba_forward import mamba_logits

LogitsFunction = Callable[[Tensor], Tensor]
"""(batch, length) token ids to (batch, length, vocabulary) logits."""


def build_model(architecture: Architecture, seed: int) -> PreTrainedModel:
    """A fresh model in float32 whose blocks all begin as the identity."""
    torch.manual_seed(seed)
    # Eager attention is a fifth faster than the flash kernel at the lengths trained on here.
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        architecture.config, dtype=torch.float32, attn_implementation="eager"
    )
    for name, parameter in model.named_parameters():
        if name.endswith(architecture.residual_outputs):
            nn.init.zeros_(parameter)
    return model


def save_rounded(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and configurations; rounds the model's parameters to bfloat16 in place."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=END_OF_TEXT_ID, pad_token_id=END_OF_TEXT_ID, do_sample=False
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    model.save_pretrained(folder)


def load_saved(folder: Path) -> PreTrainedModel:
    """A saved model, its rounded weights computed with in float32."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def logits_function(model: PreTrainedModel) -> LogitsFunction:
    """The model's own forward pass, except for Mamba: there Transformers' goes one token at a time on a CPU."""
    if model.config.model_type == "mamba":
        return lambda token_ids: mamba_logits(model, token_ids)

    def compute_logits(token_ids: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=token_ids, use_cache=False).logits
        return logits

    return compute_logits


@torch.inference_mode()
def continue_greedily(model: Any, prompt_ids: list[int], num_tokens: int) -> list[int]:
    """The ids a model finds most likely after a prompt, one by one; shorter if it ends the text."""
    prompt = torch.tensor([prompt_ids])
    output = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=num_tokens, do_sample=False)
    token_ids: list[int] = output[0, len(prompt_ids) :].tolist()
    return token_ids
