"""What an operator can set for a verifier."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class VerifierSettings(BaseSettings):
    """One replica of one target's pool."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_VERIFIER_", frozen=True, extra="forbid")

    model: str = Field(description="The target: a folder, or a Hugging Face hub id.")
    name: str | None = Field(None, description="The name that requests use; the last part of `model` without it.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Type of weights and KV cache; auto is bfloat16 where the device computes in it."
    )
    quantization: str | None = Field(
        None, description="A quantisation config of transformers as a JSON object, applied to the weights on loading."
    )
    device: str | None = Field(
        None, description="Where the model runs, as torch names it: cpu, cuda, cuda:1; cpu without it."
    )
    device_map: str | None = Field(
        None, description="Instead of a device, for a model larger than one: auto, or a JSON object module to device."
    )
    num_threads: int | None = Field(None, gt=0, description="Threads of a CPU model; torch's own choice without it.")
    page_tokens: int = Field(
        16, gt=0, description="Tokens of one page of the KV cache, the unit in which texts share it."
    )
    kv_tokens: int | None = Field(None, gt=0, description="Tokens the KV cache holds; taken from kv_bytes without it.")
    kv_bytes: int | None = Field(
        None,
        gt=0,
        description="Memory of the KV cache, in bytes, where kv_tokens is not set; without it 1 GiB on a CPU, and on "
        "CUDA kv_memory_share.",
    )
    kv_memory_share: float = Field(
        0.9, gt=0, le=1, description="Of the CUDA memory that the model and its largest pass leave: the KV cache's."
    )
    cuda_graphs: bool = Field(
        True, description="Record small passes on CUDA at start and replay them, where model and device allow it."
    )
    max_context_tokens: int | None = Field(
        None, gt=0, description="Longest text, prompt and answer together; what model and cache allow without it."
    )
    max_sessions: int = Field(64, gt=0, description="Requests served at the same time; more wait.")
    max_wait_s: float = Field(
        30.0,
        ge=0,
        description="A request that finds no room waits so long, or as its deadline allows, then is refused.",
    )
    max_idle_s: float = Field(
        5.0,
        ge=0,
        description="A request asked nothing for longer may have to compute its cache anew when memory is short.",
    )
    max_pass_tokens: int = Field(1024, gt=0, description="Tokens of one forward pass, of all sessions together.")
    prefill_chunk_tokens: int = Field(
        256, gt=0, description="Of those, prompt tokens; a long prompt delays others by this much at a time."
    )
    gather: bool = Field(
        True,
        description="Let a pass without drafts wait a moment for requests that are about to come again without one, "
        "where sharing it gains more.",
    )
    max_tree_nodes: int = Field(128, ge=0, description="Nodes of one draft tree.")
    max_waiting: int = Field(256, gt=0, description="Requests that may wait for the model; more are refused.")
