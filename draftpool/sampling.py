"""Sampling parameters, and what is pure about them. The tensor side is `draftpool.choice`."""

from __future__ import annotations

from dataclasses import dataclass

from draftpool.errors import BadParameter
from draftpool.noise import MAX_SEED


@dataclass(frozen=True)
class SamplingParams:
    """How a target's distribution becomes a token.

    Attributes:
        temperature: 0 is greedy decoding; otherwise logits are divided by it.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of most probable tokens whose probability reaches top_p; 1 keeps all.
        seed: of the request's noise, 64 bits.

    Raises:
        BadParameter: a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:  # also refuses NaN
            raise BadParameter(f"temperature must be between 0 (greedy) and 100, got {self.temperature}")
        if self.top_k < 0:
            raise BadParameter(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise BadParameter(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.seed <= MAX_SEED:
            raise BadParameter(f"seed must fit in 64 bits without sign, got {self.seed}")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0
