"""Sampling parameters, and what is pure about them. The tensor side is `draftpool.choice`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from draftpool.errors import BadParameter, TokenOutOfVocabulary
from draftpool.noise import MAX_SEED

GrammarKind: TypeAlias = Literal["json_schema", "regex", "lark"]

MAX_TOP_LOGPROBS = 20
"""Most probable tokens that can be reported for one choice."""

MAX_GRAMMAR_BYTES = 65536
_MAX_LOGIT_BIASES = 1024
_MAX_LISTED_TOKENS = 16384
_MAX_STOP_TOKENS = 64


@dataclass(frozen=True)
class Grammar:
    """A set of texts, one of which the answer shall be.

    Attributes:
        kind: a JSON schema, a regular expression for the whole text, or a grammar in llguidance's Lark dialect.

    Raises:
        BadParameter: an empty source, or one of more than 65536 bytes.
    """

    kind: GrammarKind
    source: str

    def __post_init__(self) -> None:
        num_bytes = len(self.source.encode(errors="replace"))
        if not 0 < num_bytes <= MAX_GRAMMAR_BYTES:
            raise BadParameter(f"a grammar's source takes 1 to {MAX_GRAMMAR_BYTES} bytes, got {num_bytes}")


@dataclass(frozen=True)
class SamplingParams:
    """How a target's distribution becomes a token; `proto/draftpool/v1/sampling.proto` says in which order.

    Attributes:
        temperature: 0 is greedy decoding; otherwise logits are divided by it.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of most probable tokens whose probability reaches top_p; 1 keeps all.
        seed: of the request's noise, 64 bits.
        min_p: keep tokens at least min_p times as probable as the most probable one (arXiv:2407.01082); 0 keeps all.
        typical_p: keep the tokens whose information is nearest to the expected one, up to this probability
            (arXiv:2202.00666); 1 keeps all.
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or answer
            (arXiv:1909.05858); 1 changes nothing.
        presence_penalty: subtracted from the logits of tokens in the answer.
        frequency_penalty: subtracted as many times as the answer holds the token.
        logit_bias: (token id, what is added to its logit), no id twice.
        allowed_token_ids: nothing else can be chosen; empty allows all.
        banned_token_ids: cannot be chosen.
        min_new_tokens: neither a token that ends the text nor a stop token is chosen before.
        stop_token_ids: the generation ends with the first of them.
        grammar: what the answer's text must be.

    Raises:
        BadParameter: a value outside its range, or nothing that could ever be chosen.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    banned_token_ids: tuple[int, ...] = ()
    min_new_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:  # also refuses NaN
            raise BadParameter(f"temperature must be between 0 (greedy) and 100, got {self.temperature}")
        if self.top_k < 0:
            raise BadParameter(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        for name, share in (("top_p", self.top_p), ("typical_p", self.typical_p)):
            if not 0 < share <= 1:
                raise BadParameter(f"{name} must be above 0 and at most 1, got {share}")
        if not 0 <= self.min_p <= 1:
            raise BadParameter(f"min_p must be between 0 (all tokens) and 1, got {self.min_p}")
        if not 0 <= self.seed <= MAX_SEED:
            raise BadParameter(f"seed must fit in 64 bits without sign, got {self.seed}")
        self._check_penalties()
        self._check_lists()

    def _check_penalties(self) -> None:
        if not 0 < self.repetition_penalty <= 100:
            raise BadParameter(
                f"repetition_penalty must be above 0 and at most 100 (1 changes nothing), got {self.repetition_penalty}"
            )
        for name, penalty in (
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ):
            if not -2 <= penalty <= 2:
                raise BadParameter(f"{name} must be between -2 and 2, got {penalty}")

    def _check_lists(self) -> None:
        for name, length, limit in (
            ("logit_bias", len(self.logit_bias), _MAX_LOGIT_BIASES),
            ("allowed_token_ids", len(self.allowed_token_ids), _MAX_LISTED_TOKENS),
            ("banned_token_ids", len(self.banned_token_ids), _MAX_LISTED_TOKENS),
            ("stop_token_ids", len(self.stop_token_ids), _MAX_STOP_TOKENS),
        ):
            if length > limit:
                raise BadParameter(f"{name} takes at most {limit} tokens, got {length}")
        for token_id, bias in self.logit_bias:
            if not -100 <= bias <= 100:
                raise BadParameter(f"logit_bias must be between -100 and 100, got {bias} for token {token_id}")
        if len(dict(self.logit_bias)) != len(self.logit_bias):
            raise BadParameter("logit_bias names a token twice")
        if self.min_new_tokens < 0:
            raise BadParameter(f"min_new_tokens must be 0 or more, got {self.min_new_tokens}")
        if self.allowed_token_ids and not set(self.allowed_token_ids) - set(self.banned_token_ids):
            raise BadParameter("every one of allowed_token_ids is banned, so that nothing could be chosen")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    @property
    def has_penalties(self) -> bool:
        """Whether the tokens so far change the logits."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def has_masks(self) -> bool:
        """Whether there may be tokens that cannot be chosen."""
        return bool(self.allowed_token_ids or self.banned_token_ids or self.min_new_tokens or self.grammar)

    @property
    def changes_logits(self) -> bool:
        """Whether anything comes before the temperature."""
        return self.has_masks or self.has_penalties or bool(self.logit_bias)

    def for_drafter(self) -> SamplingParams:
        """The part that a drafter applies to its own distribution."""
        return SamplingParams(self.temperature, self.top_k, self.top_p, self.seed, self.min_p, self.typical_p)

    def require_vocabulary(self, vocab_size: int) -> None:
        """Raises TokenOutOfVocabulary when a token is named that a vocabulary of this size does not have."""
        for name, token_ids in self._named_token_ids():
            for token_id in token_ids:
                if not 0 <= token_id < vocab_size:
                    raise TokenOutOfVocabulary(f"{name} names token {token_id}; the model has {vocab_size} ids")

    def _named_token_ids(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "logit_bias", tuple(token_id for token_id, _ in self.logit_bias)
        yield "allowed_token_ids", self.allowed_token_ids
        yield "banned_token_ids", self.banned_token_ids
        yield "stop_token_ids", self.stop_token_ids
