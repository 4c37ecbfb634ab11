"""What a client can ask of a generation, and the message it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from draftpool.v1 import generation_pb2, sampling_pb2
from draftpool.wire import policy_to_wire

Prompt: TypeAlias = str | Sequence[int]
"""Text, or token ids of the target."""


Priority: TypeAlias = Literal["interactive", "standard", "batch"]

_PRIORITIES: dict[str, generation_pb2.Priority] = {
    "interactive": generation_pb2.PRIORITY_INTERACTIVE,
    "standard": generation_pb2.PRIORITY_STANDARD,
    "batch": generation_pb2.PRIORITY_BATCH,
}

AcceptanceRule: TypeAlias = Literal["coupled", "rejection"]
"""How drafted tokens are accepted; both leave the target's distribution as it is (docs/architecture.md)."""


class GenerateOptions(TypedDict, total=False):
    """What a generation may be asked for beyond model and prompt. Each may be left out, or be None.

    Attributes:
        max_new_tokens: 1 or more; None goes on until the model ends the text or its context is full.
        min_new_tokens: the text does not end before.
        temperature: 0 is greedy; None takes the server's default, 1.
        top_k: keep the k most probable tokens; 0 or None keeps all.
        top_p: keep the smallest set of most probable tokens whose probability reaches it; None keeps all.
        min_p: keep tokens at least so many times as probable as the most probable one.
        typical_p: keep the tokens whose information is nearest to the expected one, up to this probability.
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or answer.
        presence_penalty: subtracted from the logits of tokens in the answer.
        frequency_penalty: subtracted as many times as the answer holds the token.
        logit_bias: added to the logits of single tokens.
        allowed_token_ids: nothing else can be chosen.
        banned_token_ids: cannot be chosen.
        seed: 64 bits; with None one is drawn, and `Start` says which.
        stop: generation ends before the first of these strings.
        stop_token_ids: generation ends with the first of these tokens.
        json_schema: the text shall be JSON that this schema describes, given as JSON or as what that stands for.
        regex: the whole text shall match this regular expression, in the syntax of Rust's `regex`.
        lark: the text shall be of this grammar, in llguidance's Lark dialect. At most one of the three.
        drafting: the tree of every round, `NO_DRAFT` for plain decoding; None leaves it to the server, which
            learns what pays. It changes the speed, never the tokens; with rejection, never their distribution.
        acceptance: how drafted tokens are accepted; None is coupled.
        ignore_eos: go on after a token that ends the text.
        want_logprobs: fill `Token.logprob`.
        num_top_logprobs: fill `Token.top_logprobs` with so many, at most 20, and `Token.logprob`.
        want_rounds: yield a `Round` after the tokens of each round.
        priority: how urgent it is while it waits for its turn; None is standard.
        resume_token_ids: tokens of the answer that you have already, from the first on, and with them the seed that
            `Start` told; generation goes on behind them. `Client` does it by itself where a stream breaks.
    """

    max_new_tokens: int | None
    min_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    allowed_token_ids: Sequence[int] | None
    banned_token_ids: Sequence[int] | None
    seed: int | None
    stop: Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    json_schema: str | bool | Mapping[str, Any] | None
    regex: str | None
    lark: str | None
    drafting: TreePolicy | None
    acceptance: AcceptanceRule | None
    ignore_eos: bool | None
    want_logprobs: bool | None
    num_top_logprobs: int | None
    want_rounds: bool | None
    priority: Priority | None
    resume_token_ids: Sequence[int] | None


_OF_REQUEST = (
    "max_new_tokens",
    "stop",
    "ignore_eos",
    "want_logprobs",
    "num_top_logprobs",
    "want_rounds",
    "resume_token_ids",
)
_OF_GRAMMAR = ("json_schema", "regex", "lark")
_OF_SAMPLING = tuple(
    GenerateOptions.__annotations__.keys() - {*_OF_REQUEST, *_OF_GRAMMAR, "drafting", "priority", "acceptance"}
)
_RULES = {
    None: sampling_pb2.ACCEPTANCE_RULE_UNSPECIFIED,
    "coupled": sampling_pb2.ACCEPTANCE_RULE_COUPLED,
    "rejection": sampling_pb2.ACCEPTANCE_RULE_REJECTION,
}


def generate_request(model: str, prompt: Prompt, options: GenerateOptions) -> generation_pb2.GenerateRequest:
    """The message of a request.

    Raises:
        BadParameter: it cannot even be sent; the server checks the rest.
        TypeError: there is no such option.
    """
    if unknown := options.keys() - GenerateOptions.__annotations__.keys():
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    try:
        return _request(model, prompt, {name: value for name, value in options.items() if value is not None})
    except ValueError as error:  # protobuf's, for numbers beyond their field and text that is not Unicode
        raise BadParameter(f"the request cannot be sent: {error}") from None


def _request(model: str, prompt: Prompt, options: Mapping[str, Any]) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest(
        model=model,
        sampling=sampling_pb2.SamplingParams(
            grammar=_grammar(options), **{name: options[name] for name in _OF_SAMPLING if name in options}
        ),
        **{name: options[name] for name in _OF_REQUEST if name in options},
    )
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    if "priority" in options:
        request.priority = _priority(options["priority"])
    request.acceptance_rule = _rule(options.get("acceptance"))
    drafting = options.get("drafting")
    if drafting == NO_DRAFT:
        request.drafting.off = True
    elif drafting is not None:
        request.drafting.policy.CopyFrom(policy_to_wire(drafting))
    return request


def _priority(name: str) -> generation_pb2.Priority:
    if name not in _PRIORITIES:
        raise BadParameter(f"there is no priority {name!r}; there are {', '.join(_PRIORITIES)}")
    return _PRIORITIES[name]


def _rule(name: str | None) -> sampling_pb2.AcceptanceRule:
    if name not in _RULES:
        raise BadParameter(f"acceptance is coupled or rejection, got {name!r}")
    return _RULES[name]


def _grammar(options: Mapping[str, Any]) -> sampling_pb2.Grammar | None:
    sources = {name: options[name] for name in _OF_GRAMMAR if name in options}
    if len(sources) > 1:
        raise BadParameter(f"{' and '.join(sources)} exclude each other: a text is held to one grammar")
    if not isinstance(sources.get("json_schema", ""), str):
        sources["json_schema"] = json.dumps(sources["json_schema"])
    return sampling_pb2.Grammar(**sources) if sources else None
