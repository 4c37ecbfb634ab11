"""The corpus is split once and for all, and nothing held out is trained on."""

import json

import pytest

from training.text import NUM_HELD_OUT_PROBLEMS, load_corpus


@pytest.fixture
def gsm8k_path(tmp_path):
    path = tmp_path / "problems.jsonl"
    lines = [json.dumps({"question": f"q{n}", "answer": f"a{n}\n#### {n}"}) for n in range(NUM_HELD_OUT_PROBLEMS + 5)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_problem_has_one_exact_layout(gsm8k_path):
    assert load_corpus(gsm8k_path).gsm8k.train[3] == "Question: q3\nAnswer: a3\n#### 3"


def test_the_last_problems_are_held_out(gsm8k_path):
    gsm8k = load_corpus(gsm8k_path).gsm8k
    assert len(gsm8k.train) == 5
    assert gsm8k.held_out[-1].startswith(f"Question: q{NUM_HELD_OUT_PROBLEMS + 4}\n")


def test_about_one_module_in_fifty_is_held_out(gsm8k_path):
    python = load_corpus(gsm8k_path).python
    assert 0.005 < len(python.held_out) / len(python.train) < 0.05
    assert not set(python.train) & {text for text in python.held_out if text}


def test_two_readings_agree(gsm8k_path):
    assert load_corpus(gsm8k_path) == load_corpus(gsm8k_path)
