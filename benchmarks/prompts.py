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


def load_suites(folder: Path, num_prompts: int) -> dict[str, list[str]]:
    """At most so many prompts of each suite: `gsm8k.jsonl`, `humaneval.jsonl` and `spec_bench.jsonl` in a folder; long
    texts of Spec-Bench are cut, its kinds of tasks are all there.
    """
    gsm8k, humaneval, spec_bench = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("gsm8k", "humaneval", "spec_bench")
    )
    step = max(1, len(spec_bench) // num_prompts)
    return {
        "GSM8K": [f"Question: {problem['question']}\nAnswer:" for problem in gsm8k[:num_prompts]],
        "HumanEval": [problem["prompt"] for problem in humaneval[:num_prompts]],
        "Spec-Bench": [task["turns"][0][:1200] for task in spec_bench[::step][:num_prompts]],
    }
