"""A corpus of a few made-up documents, and a tokenizer learnt from them."""

import pytest

from training.bpe import TokenizerSpec, train_tokenizer
from training.text import Corpus, Source, format_problem

VOCAB_SIZE = 300


@pytest.fixture(scope="session")
def corpus():
    problems = [format_problem(f"What is {n} plus {n}?", f"<<{n}+{n}={2 * n}>>\n#### {2 * n}") for n in range(60)]
    modules = [f"def double_{n}(number):\n    return {n} * number\n" for n in range(30)]
    return Corpus(gsm8k=Source(problems[:50], problems[50:]), python=Source(modules[:25], modules[25:]))


@pytest.fixture(scope="session")
def tokenizer(corpus):
    return train_tokenizer(TokenizerSpec(vocab_size=VOCAB_SIZE, python_bytes=10_000), corpus)
