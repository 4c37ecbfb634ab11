"""A saved Mamba, told in the same words whichever layout its files have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from draftpool.errors import ModelNotServable

Architecture = Literal["mamba", "mamba2"]


@dataclass(frozen=True)
class Checkpoint:
    """What a configuration says that the tensors' shapes do not, and the tensors.

    Attributes:
        name: folder or hub id, for messages.
        architecture: which mixer the layers have.
        num_layers: all alike.
        vocab_size: ids that mean something, where the configuration tells; the embedding may have more rows.
        norm_eps: of every RMS norm.
        num_groups: G of Mamba-2; 1 for Mamba-1.
        time_step_limits: of Mamba-2; None where there is no limit.
        eos_token_ids: none where the configuration names none.
        num_parameters: as saved, shared ones once.
        tensors: by the names of the Hugging Face layout.
    """

    name: str
    architecture: Architecture
    num_layers: int
    vocab_size: int
    norm_eps: float
    num_groups: int
    time_step_limits: tuple[float, float] | None
    eos_token_ids: tuple[int, ...]
    num_parameters: int
    tensors: Mapping[str, Tensor]

    def tensor(self, name: str, device: str | torch.device) -> Tensor:
        """One tensor in float32.

        Raises:
            ModelNotServable: the checkpoint has none of this name.
        """
        try:
            return self.tensors[name].detach().to(device=device, dtype=torch.float32)
        except KeyError:
            raise ModelNotServable(f"{self.name!r} is no {self.architecture} checkpoint: it lacks {name!r}") from None

    def layer(self, index: int, device: str | torch.device) -> LayerTensors:
        return LayerTensors(self, f"backbone.layers.{index}.", device)


@dataclass(frozen=True)
class LayerTensors:
    """One layer's tensors by their own names, in float32 on a device."""

    checkpoint: Checkpoint
    prefix: str
    device: str | torch.device

    def __getitem__(self, name: str) -> Tensor:
        """Raises ModelNotServable."""
        return self.checkpoint.tensor(self.prefix + name, self.device)

    def get(self, name: str) -> Tensor | None:
        return self[name] if self.prefix + name in self.checkpoint.tensors else None


def unlimited(time_step_limits: tuple[float, float]) -> bool:
    """Whether limits change nothing: a time step is positive as it is."""
    return time_step_limits[0] <= 0 and time_step_limits[1] == float("inf")
