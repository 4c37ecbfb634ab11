"""The model card, written from what was measured."""

import math
import platform
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedConfig

from training.batches import GSM8K_SHARE
from training.checkpoint import Progress
from training.evaluate import Score
from training.text import NUM_HELD_OUT_PROBLEMS

_ROLES = {
    "tiny-llama": "A small Llama-style target for draftpool's default deployment.",
    "tiny-neox": (
        "A small GPT-NeoX-style target for draftpool's default deployment, with an architecture and a tokenizer "
        "of its own."
    ),
    "tiny-mamba-drafter": (
        "The Mamba drafter of draftpool's default deployment. It was trained on text alone and never saw the output "
        "of a target, so that one drafter serves every target. It reads with tiny-llama's tokenizer."
    ),
}

_CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
datasets: [openai/gsm8k]
---

# {name}

{role}
It exists to make a laptop demonstration and the tests real; it is far too small to be right about anything.

| | |
|---|---|
| architecture | {architecture}, {num_layers} layers, width {width} |
| parameters | {num_parameters:,} (embeddings tied) |
| weights | bfloat16, {megabytes:.1f} MB |
| vocabulary | {vocab_size}, byte-level BPE, digits apart; `<|endoftext|>` is id 0 |
| tokens seen | {seen_tokens:,} in {num_steps:,} steps |
| training time | {train_minutes:.0f} minutes on one shared CPU core, {tokens_per_s:.0f} tokens/s |

## Data

About {gsm8k_percent} % of the tokens come from the training split of [GSM8K](https://github.com/openai/grade-school-math)
(MIT licence), each problem as `Question: ...`, newline, `Answer: ...`, calculator annotations kept. The rest is the
source of Python {python_version}'s standard library (PSF-2.0) without its tests. Held out and never trained on: the
last {num_problems} problems and about one file in fifty. GSM8K's test split was not used at all.

## Held-out figures

Measured on the exported weights, computing in float32, each document on its own in windows of 512 tokens.

| text | loss (nats/token) | perplexity | bits/byte |
|---|---|---|---|
{score_rows}

Perplexities of models with different tokenizers do not compare; bits per byte do.

## How it was made

    python -m training.bpe --gsm8k gsm8k_train.jsonl --run-dir runs
    python -m training.train {name} --gsm8k gsm8k_train.jsonl --run-dir runs --tokens {total_tokens}
    python -m training.export {name} --gsm8k gsm8k_train.jsonl --run-dir runs

Muon for hidden matrices and AdamW for the rest, bfloat16 autocast over float32 weights, warmup-stable-decay. The
shipped weights come from a run that was steered on the way; `training/README.md` says how. They are licensed under
Apache-2.0, like the project.
"""


def model_card(
    name: str, folder: Path, config: PreTrainedConfig, progress: Progress, scores: Mapping[str, Score]
) -> str:
    """The card of the model that lies in `folder`."""
    weights = folder / "model.safetensors"
    return _CARD.format(
        name=name,
        role=_ROLES[name],
        architecture=config.model_type,
        num_layers=config.num_hidden_layers,
        width=config.hidden_size,
        num_parameters=count_parameters(weights),
        megabytes=weights.stat().st_size / 1e6,
        vocab_size=config.vocab_size,
        seen_tokens=progress.seen_tokens,
        num_steps=progress.step,
        train_minutes=progress.train_seconds / 60,
        tokens_per_s=progress.seen_tokens / progress.train_seconds,
        gsm8k_percent=round(100 * GSM8K_SHARE),
        python_version=platform.python_version(),
        num_problems=NUM_HELD_OUT_PROBLEMS,
        score_rows="\n".join(_score_row(source, score) for source, score in scores.items()),
        total_tokens=progress.schedule.total_tokens,
    )


def count_parameters(weights: Path) -> int:
    """Number of scalars in a safetensors file, where tied matrices are stored once."""
    with safe_open(weights, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118


def _score_row(source: str, score: Score) -> str:
    return f"| {source} | {score.loss:.3f} | {score.perplexity:.2f} | {score.bits_per_byte:.3f} |"
