"""What a Generate request asks for, checked before it costs anything."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from enum import StrEnum

from draftpool.errors import BadParameter, ContextTooLong, EmptyContext, TokenOutOfVocabulary
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.v1 import generation_pb2
from draftpool.wire import is_rejection, num_top_logprobs_from_wire, policy_from_wire, sampling_from_wire
from orchestrator.fair_queue import Priority
from orchestrator.fleet import Target
from orchestrator.generation import Limits

_MAX_STOP_STRINGS = 16
_MAX_STOP_CHARS = 1000

_PRIORITIES: dict[int, Priority] = {
    generation_pb2.PRIORITY_UNSPECIFIED: Priority.STANDARD,
    generation_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    generation_pb2.PRIORITY_STANDARD: Priority.STANDARD,
    generation_pb2.PRIORITY_BATCH: Priority.BATCH,
}


class SamplingClass(StrEnum):
    """Requests of one class learn from each other which shapes pay."""

    GREEDY = "greedy"
    SAMPLED = "sampled"
    REJECTION = "rejection"


@dataclass(frozen=True)
class CheckedRequest:
    """A Generate request that can be served.

    Attributes:
        fixed_shape: the shape of every round; None leaves it to the bandit.
        resumed_token_ids: the answer's beginning, where another stream has brought it to the client.
        is_rejection: whether drafts are accepted by the rejection rule; never at temperature 0: there is one rule.
    """

    prompt_token_ids: tuple[int, ...]
    limits: Limits
    params: SamplingParams
    fixed_shape: TreePolicy | None
    resumed_token_ids: tuple[int, ...]
    want_logprobs: bool
    num_top_logprobs: int
    want_rounds: bool
    is_rejection: bool = False

    @property
    def sampling_class(self) -> SamplingClass:
        if self.params.is_greedy:
            return SamplingClass.GREEDY
        return SamplingClass.REJECTION if self.is_rejection else SamplingClass.SAMPLED


async def check_request(request: generation_pb2.GenerateRequest, target: Target) -> CheckedRequest:
    """Decode a request for a target and fill in what it leaves open, the seed among it.

    Raises:
        InvalidRequest: of the class that says what is wrong.
        Unsupported: an acceptance rule or tree policy that this version does not have.
    """
    is_rejection_rule = is_rejection(request.acceptance_rule)
    params = sampling_from_wire(request.sampling, drawn_seed=secrets.randbits(64))
    is_drawn = is_rejection_rule and not params.is_greedy
    params.require_vocabulary(len(target.vocabulary))
    prompt_token_ids = await _prompt(request, target)
    limits = _limits(request, params, target, len(prompt_token_ids))
    return CheckedRequest(
        prompt_token_ids=prompt_token_ids,
        limits=limits,
        params=params,
        fixed_shape=_fixed_shape(request.drafting, target, is_drawn=is_drawn),
        resumed_token_ids=_resumed(request, params, limits, target),
        want_logprobs=request.want_logprobs or request.num_top_logprobs > 0,
        num_top_logprobs=num_top_logprobs_from_wire(request.num_top_logprobs, len(target.vocabulary)),
        want_rounds=request.want_rounds,
        is_rejection=is_drawn,
    )


def priority_of(request: generation_pb2.GenerateRequest) -> Priority:
    """Raises BadParameter for a priority that this version does not know."""
    if request.priority not in _PRIORITIES:
        raise BadParameter(f"there is no priority {request.priority}; 1 is interactive, 2 standard, 3 batch")
    return _PRIORITIES[request.priority]


async def _prompt(request: generation_pb2.GenerateRequest, target: Target) -> tuple[int, ...]:
    if request.WhichOneof("prompt") == "token_ids":
        _require_room(len(request.token_ids.ids), target)
        return _known(tuple(request.token_ids.ids), target)
    num_bytes = len(request.text.encode())
    if num_bytes == 0:
        raise EmptyContext("the prompt is empty; generation needs at least one token to continue")
    if num_bytes > target.max_prompt_bytes:
        raise ContextTooLong(
            f"the prompt has {num_bytes} bytes; {target.name} takes {target.description.max_context_tokens} tokens, "
            f"of at most {target.max_prompt_bytes} bytes together"
        )
    token_ids = await asyncio.to_thread(target.encode, request.text)
    _require_room(len(token_ids), target)
    return token_ids


def _known(token_ids: tuple[int, ...], target: Target) -> tuple[int, ...]:
    vocab_size = len(target.vocabulary)
    if max(token_ids) >= vocab_size:
        raise TokenOutOfVocabulary(f"token id {max(token_ids)} is not below {target.name}'s {vocab_size} ids")
    return token_ids


def _require_room(num_prompt_tokens: int, target: Target) -> None:
    max_context_tokens = target.description.max_context_tokens
    if num_prompt_tokens == 0:
        raise EmptyContext("the prompt is empty; generation needs at least one token to continue")
    if num_prompt_tokens >= max_context_tokens:
        raise ContextTooLong(
            f"the prompt has {num_prompt_tokens} tokens; {target.name} takes {max_context_tokens}, new tokens included"
        )


def _limits(
    request: generation_pb2.GenerateRequest, params: SamplingParams, target: Target, num_prompt_tokens: int
) -> Limits:
    if request.HasField("max_new_tokens") and request.max_new_tokens < 1:
        raise BadParameter("max_new_tokens must be at least 1, got 0")
    if request.HasField("max_new_tokens") and request.max_new_tokens < params.min_new_tokens:
        raise BadParameter(f"min_new_tokens is {params.min_new_tokens}, max_new_tokens only {request.max_new_tokens}")
    if request.ignore_eos and params.grammar is not None:
        raise BadParameter("ignore_eos and a grammar exclude each other: nothing can follow a text that is complete")
    if len(request.stop) > _MAX_STOP_STRINGS:
        raise BadParameter(f"at most {_MAX_STOP_STRINGS} stop strings, got {len(request.stop)}")
    if any(not 0 < len(stop) <= _MAX_STOP_CHARS for stop in request.stop):
        raise BadParameter(f"a stop string must not be empty, nor longer than {_MAX_STOP_CHARS} characters")
    room = target.description.max_context_tokens - num_prompt_tokens
    max_new_tokens = min(room, request.max_new_tokens) if request.HasField("max_new_tokens") else room
    return Limits(max_new_tokens, tuple(request.stop), request.ignore_eos, params.stop_token_ids)


def _resumed(
    request: generation_pb2.GenerateRequest, params: SamplingParams, limits: Limits, target: Target
) -> tuple[int, ...]:
    resumed = tuple(request.resume_token_ids)
    if not resumed:
        return resumed
    if len(resumed) > limits.max_new_tokens:
        raise BadParameter(
            f"resume_token_ids holds {len(resumed)} tokens, but the answer has at most {limits.max_new_tokens}"
        )
    if not params.is_greedy and not request.sampling.HasField("seed"):
        raise BadParameter("resume_token_ids needs the seed that GenerationStart told: another seed is another text")
    return _known(resumed, target)


def _fixed_shape(drafting: generation_pb2.Drafting, target: Target, *, is_drawn: bool) -> TreePolicy | None:
    choice = drafting.WhichOneof("choice")
    if choice is None or (choice == "off" and not drafting.off):
        return None
    if choice == "off":
        return NO_DRAFT
    shape = policy_from_wire(drafting.policy)
    if is_drawn and isinstance(shape, BestFirst):
        raise BadParameter(
            "the rejection rule takes trees of fixed branching only: which nodes of a best-first tree are kept depends "
            "on what was drawn; ask for branching factors, or leave the choice to the server"
        )
    if shape.num_nodes > target.description.max_tree_nodes:
        raise BadParameter(
            f"the shape {shape} has {shape.num_nodes} nodes; {target.name} verifies at most "
            f"{target.description.max_tree_nodes} at once"
        )
    return shape
