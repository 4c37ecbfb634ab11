"""Prompts to measure with."""

from __future__ import annotations

import json
from pathlib import Path

from draftpool.cli.demo_prompts import PROMPTS


def load_prompts(path: Path | None, num_prompts: int) -> list[str]:
    """At most so many prompts: the first problems of a GSM8K file (JSON lines with a `question`), in the form that the
    embedded models know; without a file the demo's own few.
    """
    if path is None:
        return list(PROMPTS[:num_prompts])
    with path.open(encoding="utf-8") as lines:
        problems = [json.loads(line) for _, line in zip(range(num_prompts), lines, strict=False)]
    return [f"Question: {problem['question']}\nAnswer:" for problem in problems]
