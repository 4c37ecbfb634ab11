"""A run's state on disk: written whole or not at all."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.batches import MixtureBatches, StreamState
from training.optimizer import HybridOptimizer
from training.schedule import Schedule


@dataclass
class Progress:
    """How far a run has come."""

    schedule: Schedule
    """Budget and learning-rate factor; a resumed run may change it."""
    step: int = 0
    """Optimizer steps taken."""
    seen_tokens: int = 0
    """Tokens trained on, with repetition."""
    train_seconds: float = 0.0
    """Time spent in steps, over all resumptions."""


def checkpoint_path(run_dir: Path, name: str) -> Path:
    """Where the run of model `name` keeps its only checkpoint."""
    return run_dir / name / "checkpoint.pt"


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: HybridOptimizer, batches: MixtureBatches, progress: Progress
) -> None:
    """Replace the checkpoint atomically, so that an export or a crash never meets half a file."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "batches": batches.state(),
        "progress": asdict(progress),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def resume_checkpoint(path: Path, model: nn.Module, optimizer: HybridOptimizer, batches: MixtureBatches) -> Progress:
    """Load a checkpoint into model, optimizer and batches, all of which it mutates."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    streams: Mapping[str, StreamState] = state["batches"]
    batches.restore(streams)
    return progress_from(state["progress"])


def load_weights(path: Path, model: nn.Module) -> Progress:
    """Load only the weights of a checkpoint into `model`."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    return progress_from(state["progress"])


def progress_from(saved: dict[str, Any]) -> Progress:
    """The inverse of `asdict` on a `Progress`."""
    return Progress(**{**saved, "schedule": Schedule(**saved["schedule"])})
