"""Prompts to measure with."""

from __future__ import annotations

import json
from pathlib import Path


def gsm8k_prompts(path: Path, num_prompts: int) -> list[str]:
    """The first problems of a GSM8K file (JSON lines with a `question`), in the form the embedded models know."""
    with path.open(encoding="utf-8") as lines:
        problems = [json.loads(line) for _, line in zip(range(num_prompts), lines, strict=False)]
    return [question_prompt(problem["question"]) for problem in problems]


def question_prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"
