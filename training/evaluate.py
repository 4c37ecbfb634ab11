"""Measure a saved model on the held-out text, and let it speak.

    python -m training.evaluate draftpool/embedded/tiny-llama --gsm8k gsm8k_train.jsonl

Held out are the problems and files that `training.text` sets apart.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from training.batches import encode_documents
from training.bpe import END_OF_TEXT_ID, load_tokenizer
from training.memory import keep_freed_memory
from training.models import LogitsFunction, continue_greedily, load_saved, logits_function
from training.text import Corpus, load_corpus

WINDOW_LENGTH = 512
NUM_SAMPLE_TOKENS = 120


@dataclass(frozen=True)
class Score:
    """How well a model predicts some text."""

    num_tokens: int
    """Predicted tokens, each document's end-of-text token among them."""
    num_bytes: int
    """The text's length in UTF-8."""
    total_nats: float
    """Summed cross-entropy."""

    @property
    def loss(self) -> float:
        """Cross-entropy a token, in nats."""
        return self.total_nats / self.num_tokens

    @property
    def perplexity(self) -> float:
        """The exponential of the loss; comparable only between models with the same tokenizer."""
        return math.exp(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """Cross-entropy a byte of text, in bits; comparable between tokenizers."""
        return self.total_nats / math.log(2) / self.num_bytes


def score_held_out(model: PreTrainedModel, tokenizer: Tokenizer, corpus: Corpus) -> dict[str, Score]:
    """Score every source's held-out half, by source name."""
    compute_logits = logits_function(model)
    return {
        name: score_documents(compute_logits, tokenizer, source.held_out) for name, source in corpus.sources().items()
    }


@torch.inference_mode()
def score_documents(compute_logits: LogitsFunction, tokenizer: Tokenizer, documents: list[str]) -> Score:
    """Score each document on its own, after an end-of-text token, in windows of `WINDOW_LENGTH` tokens.

    A window after a document's first knows only the token before it, so long documents score worse than a model with
    their whole context would.
    """
    total_nats, num_tokens = 0.0, 0
    for token_ids in encode_documents(tokenizer, documents):
        for window in windows(torch.tensor([END_OF_TEXT_ID, *token_ids.tolist()])):
            logits = compute_logits(window[None, :-1])[0]
            total_nats += F.cross_entropy(logits.float(), window[1:], reduction="sum").item()
            num_tokens += len(window) - 1
    return Score(num_tokens, sum(len(document.encode()) for document in documents), total_nats)


def windows(token_ids: Tensor) -> Iterator[Tensor]:
    """Cut (length,) token ids so that every token but the first is predicted once: each cut repeats one token."""
    for start in range(0, len(token_ids) - 1, WINDOW_LENGTH):
        yield token_ids[start : start + WINDOW_LENGTH + 1]


def sample_prompts(corpus: Corpus) -> list[str]:
    """Beginnings of held-out problems, and one of a Python function."""
    questions = [document.split("Answer:")[0] + "Answer:" for document in corpus.gsm8k.held_out[:3]]
    return [*questions, "Question: A farmer has", "def read_lines(path):\n"]


def main() -> None:
    """Print a saved model's scores and a few greedy samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a model as training.export leaves it")
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's training split (JSON lines)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model, tokenizer = load_saved(arguments.folder), load_tokenizer(arguments.folder)
    corpus = load_corpus(arguments.gsm8k)
    for name, score in score_held_out(model, tokenizer, corpus).items():
        print(
            f"{name}: loss {score.loss:.4f} nats/token, perplexity {score.perplexity:.2f}, "
            f"{score.bits_per_byte:.4f} bits/byte ({score.num_tokens} tokens, {score.num_bytes} bytes)"
        )
    for prompt in sample_prompts(corpus):
        token_ids = continue_greedily(model, tokenizer.encode(prompt).ids, NUM_SAMPLE_TOKENS)
        print(f"\n--- {prompt}\n>>> {tokenizer.decode(token_ids)}")


if __name__ == "__main__":
    main()
