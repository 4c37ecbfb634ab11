"""What users have without us: `generate` of transformers, in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from draftpool.embedded import EMBEDDED_MODELS, embedded_path


@dataclass(frozen=True)
class BaselineRun:
    """One call of `generate`.

    Attributes:
        token_ids: the new tokens.
        seconds: of the whole call.
    """

    token_ids: tuple[int, ...]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return len(self.token_ids) / self.seconds


class TransformersBaseline:
    """A target in plain transformers, with its KV cache."""

    def __init__(self, model: str, *, dtype: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        source = str(embedded_path(model)) if model in EMBEDDED_MODELS else model
        self.model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)  # comes in eval mode
        self._tokenizer = AutoTokenizer.from_pretrained(source)

    def generate(self, prompt: str, *, max_new_tokens: int, temperature: float) -> BaselineRun:
        """Greedy for temperature 0, else sampled from the whole distribution."""
        inputs = self._tokenizer(prompt, return_tensors="pt")
        sampling = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
        start = time.perf_counter()
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, **sampling, top_k=0 if temperature else None, max_new_tokens=max_new_tokens
            )
        seconds = time.perf_counter() - start
        return BaselineRun(tuple(output[0, inputs["input_ids"].shape[1] :].tolist()), seconds)

    def encode(self, prompt: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(prompt)["input_ids"])

    @torch.inference_mode()
    def top_two_gap(self, token_ids: tuple[int, ...]) -> float:
        """The difference of the two largest logits after `token_ids`: how near a tie was."""
        largest = self.model(torch.tensor([token_ids])).logits[0, -1].float().topk(2).values
        return float(largest[0] - largest[1])
