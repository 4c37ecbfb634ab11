"""Muon for hidden matrices, AdamW for everything else.

Source: Muon, https://kellerjordan.github.io/posts/muon/; per token of text it learns faster than AdamW, and text is
what a small CPU run has least of.
"""

from typing import Any

import torch
from torch import nn

MUON_LEARNING_RATE = 0.008
ADAMW_LEARNING_RATE = 0.0015
MAX_GRADIENT_NORM = 1.0


class HybridOptimizer:
    """Two optimizers that step as one, under one factor on their learning rates."""

    def __init__(self, model: nn.Module) -> None:
        matrices, others = split_parameters(model)
        self._parameters = [*matrices, *others]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, momentum=0.95, weight_decay=0.05),
            torch.optim.AdamW(others, lr=ADAMW_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
        self._base_rates = [MUON_LEARNING_RATE, ADAMW_LEARNING_RATE]

    def step(self, factor: float) -> float:
        """Clip, update every parameter and forget the gradients.

        Args:
            factor: multiplies both learning rates.

        Returns:
            The gradient's norm before clipping.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters, MAX_GRADIENT_NORM)
        for optimizer, base_rate in zip(self._optimizers, self._base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base_rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> list[dict[str, Any]]:
        """Both optimizers' states, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take over states that `state_dict` gave."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Tell the matrices that act inside the network from embeddings, biases, norms, convolutions and state matrices.

    Returns:
        The parameters for Muon and those for AdamW.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear_weights = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_hidden = id(parameter) in linear_weights and id(parameter) not in embeddings
        (matrices if is_hidden else others).append(parameter)
    return matrices, others
