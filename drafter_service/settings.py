"""Settings of a drafter replica.

A value comes from the command line, else from the environment (`DRAFTPOOL_DRAFTER_MODEL`, ...), else from the
default written here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DrafterSettings(BaseSettings):
    """Which model drafts, and how much it takes on."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_DRAFTER_", frozen=True, extra="forbid")

    model: str = Field(
        description="Mamba-1 or Mamba-2 checkpoint, in Hugging Face's or mamba_ssm's layout: a folder or a hub id."
    )
    tokenizer: str | None = Field(
        None, description="Folder or hub id with the model's `tokenizer.json`. The model itself without."
    )
    name: str | None = Field(
        None, description="What the replica calls its model; the bandit learns under it. The model's last part without."
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Of the large matrices; activations are float32 always. Without it bfloat16 where the device "
        "multiplies in it, and else float32.",
    )
    state_dtype: Literal["bfloat16", "float32"] = Field(
        "float32", description="That recurrent states are kept in; bfloat16 holds twice as many and rounds each step."
    )
    device: str = Field("cpu", description="Torch device.")
    num_threads: int = Field(
        1, ge=1, description="Torch threads. A drafter is small: a second thread costs more than it brings."
    )
    max_sessions: int = Field(128, ge=1, description="Sessions open at once; more are refused with a retry hint.")
    state_memory_mib: int = Field(
        128, ge=1, description="Memory for recurrent states, in MiB: one for every session and every live tree node."
    )
    max_tree_nodes: int = Field(64, ge=1, description="Largest tree that may be asked for.")
    prefill_chunk_tokens: int = Field(
        128, ge=1, description="Context tokens computed between two drafts, all sessions together."
    )
    max_waiting: int = Field(128, ge=1, description="Requests that may wait for the model; more are refused.")
    max_vocabularies: int = Field(16, ge=1, description="Target vocabularies kept, least recently used out first.")

    @property
    def display_name(self) -> str:
        return self.name or self.model.rstrip("/").rpartition("/")[2]
