"""Prompts to measure with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    """At most so many prompts of each suite: `gsm8k.jsonl`, `humaneval.jsonl` and `spec_bench.jsonl` in a folder."""
    return read_suites(folder / "gsm8k.jsonl", folder / "humaneval.jsonl", folder / "spec_bench.jsonl", num_prompts)


def read_suites(
    gsm8k: Path | None, humaneval: Path | None, spec_bench: Path | None, num_prompts: int
) -> dict[str, list[str]]:
    """At most so many prompts of each suite that there is a file of; long texts of Spec-Bench are cut, its kinds of
    tasks are all there. Without any file, the demo's.
    """
    suites: dict[str, list[str]] = {}
    if gsm8k is not None:
        suites["GSM8K"] = load_prompts(gsm8k, num_prompts)
    if humaneval is not None:
        suites["HumanEval"] = [problem["prompt"] for problem in _records(humaneval)[:num_prompts]]
    if spec_bench is not None:
        tasks = _records(spec_bench)
        step = max(1, len(tasks) // num_prompts)
        suites["Spec-Bench"] = [task["turns"][0][:1200] for task in tasks[::step][:num_prompts]]
    return suites or {"demo": load_prompts(None, num_prompts)}


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
