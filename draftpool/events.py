"""What a client receives: the events of a generation, and the models it can ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self, TypeAlias

from draftpool.errors import InternalError
from draftpool.tree_policy import TreePolicy
from draftpool.v1 import generation_pb2
from draftpool.wire import policy_from_wire

FinishReason: TypeAlias = Literal["eos", "length", "stop", "unspecified"]

_FINISH_REASONS: dict[int, FinishReason] = {
    generation_pb2.FINISH_REASON_EOS: "eos",
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_STOP: "stop",
}


@dataclass(frozen=True)
class Start:
    """The first event: the request was admitted.

    Attributes:
        request_id: names this request in every service's log.
        seed: the request's, or the one drawn for it; sending it again gives the same tokens.
    """

    request_id: str
    seed: int
    num_prompt_tokens: int


@dataclass(frozen=True)
class TopLogprob:
    """A token that could have been chosen.

    Attributes:
        logprob: under the model's own distribution.
        text: of this token alone.
    """

    id: int
    logprob: float
    text: str


@dataclass(frozen=True)
class Token:
    """A new token.

    Attributes:
        text: what it adds; empty for half a character, whose text comes with the token that completes it.
        drafted: whether the drafter had proposed it.
        logprob: under the model's own distribution, where asked for.
        top_logprobs: what could have stood here, most probable first, where asked for.
    """

    id: int
    text: str
    drafted: bool
    logprob: float | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True)
class Round:
    """One draft, verify, accept; where asked for, after the tokens it released. Times in microseconds.

    Attributes:
        shape: the tree that was asked of the drafter; None for a policy that this version does not know.
        num_nodes, num_accepted: nodes that were verified, and those accepted.
        draft_us, verify_us: busy time of the services, queueing included.
        wire_us: waiting for their replies beyond that.
        round_us: the whole round as the orchestrator saw it.
        draft_wire_us: of `wire_us`, what was waited for the draft.
        was_hedged: the draft was not there in time, and the round went on without.
        draft_was_late: the tree is what was left of a draft that an earlier round had not waited for.
    """

    shape: TreePolicy | None
    num_nodes: int
    num_accepted: int
    draft_us: int
    verify_us: int
    wire_us: int
    round_us: int
    draft_wire_us: int = 0
    was_hedged: bool = False
    draft_was_late: bool = False


@dataclass(frozen=True)
class Usage:
    """What a generation took; of one that was continued, its last stream. Times in microseconds.

    Attributes:
        num_drafted_nodes, num_accepted_tokens: nodes drafted, and drafted tokens accepted, over all rounds.
        draft_us, verify_us, wire_us: sums over the rounds, as in `Round`.
        queue_us: waiting for its turn.
        time_to_first_token_us, total_us: from the request's arrival until its first token was ready, and its last.
        prefill_us: of `verify_us`, taking in the whole context: the first round, and one for each further session.
        num_resumed_tokens: of the answer, what the request brought along.
        num_draft_sessions, num_verify_sessions: opened with drafters and verifiers; more than one where a replica was
            lost.
        reader_us: waiting for the client to read.
        cold_start_us: waiting for the target to start, which had no replica.
        num_hedged_rounds, num_late_drafts: rounds that did not wait for their draft, and that used one of before.
    """

    num_prompt_tokens: int
    num_new_tokens: int
    num_rounds: int
    num_drafted_nodes: int
    num_accepted_tokens: int
    draft_us: int
    verify_us: int
    wire_us: int
    queue_us: int
    time_to_first_token_us: int
    total_us: int
    prefill_us: int = 0
    num_resumed_tokens: int = 0
    num_draft_sessions: int = 0
    num_verify_sessions: int = 0
    reader_us: int = 0
    cold_start_us: int = 0
    num_hedged_rounds: int = 0
    num_late_drafts: int = 0

    @property
    def tokens_per_pass(self) -> float:
        """New tokens a verify pass; 1 without drafting."""
        return self.num_new_tokens / max(1, self.num_rounds)

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the time from admission to the end, the prompt's computation included."""
        waited_us = self.queue_us + self.cold_start_us
        return self.num_new_tokens / max(1e-6, (self.total_us - waited_us) / 1e6)


@dataclass(frozen=True)
class Finish:
    """The last event.

    Attributes:
        reason: the model ended the text, the token limit or the context's end came, or a stop string or token was met.
        matched_stop: that string; empty for other reasons.
        matched_stop_token_id: that token, the last one.
    """

    reason: FinishReason
    matched_stop: str
    usage: Usage
    matched_stop_token_id: int | None = None


Event: TypeAlias = Start | Token | Round | Finish


@dataclass(frozen=True)
class Completion:
    """A whole generation."""

    start: Start
    tokens: tuple[Token, ...]
    rounds: tuple[Round, ...]
    finish: Finish

    @classmethod
    def from_events(cls, events: Sequence[Event]) -> Self:
        """Raises InternalError when the server left out the beginning or the end."""
        match events:
            case [Start() as start, *between, Finish() as finish]:
                tokens = tuple(event for event in between if isinstance(event, Token))
                rounds = tuple(event for event in between if isinstance(event, Round))
                return cls(start, tokens, rounds, finish)
        raise InternalError("the server ended the generation without saying why")

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True)
class Model:
    """A target that can be asked now.

    Attributes:
        has_drafter: whether a drafter serves it now.
        shared_vocabulary: the share of its tokens that the drafter can propose, 0 to 1.
        is_cold: it has no replica, and starts with the first request; of one never seen, only the name is known.
    """

    name: str
    architecture: str
    dtype: str
    num_parameters: int
    vocab_size: int
    max_context_tokens: int
    has_drafter: bool
    shared_vocabulary: float
    is_cold: bool = False


def events_from_wire(reply: generation_pb2.GenerateReply) -> Iterator[Event]:
    """The events of one reply, in order."""
    if reply.HasField("start"):
        yield Start(reply.start.request_id, reply.start.seed, reply.start.num_prompt_tokens)
    for token in reply.tokens:
        yield _token(token)
    if reply.HasField("round"):
        yield _round(reply.round)
    if reply.HasField("finish"):
        yield _finish(reply.finish)


def _token(message: generation_pb2.GeneratedToken) -> Token:
    logprob = message.logprob if message.HasField("logprob") else None
    tops = tuple(TopLogprob(top.id, top.logprob, top.text) for top in message.top_logprobs)
    return Token(message.id, message.text, message.drafted, logprob, tops)


def _finish(message: generation_pb2.GenerationFinish) -> Finish:
    stop_token_id = message.matched_stop_token_id if message.HasField("matched_stop_token_id") else None
    reason = _FINISH_REASONS.get(message.reason, "unspecified")
    return Finish(reason, message.matched_stop, _usage(message.usage), stop_token_id)


def model_from_wire(info: generation_pb2.ModelInfo) -> Model:
    return Model(
        name=info.name,
        architecture=info.architecture,
        dtype=info.dtype,
        num_parameters=info.num_parameters,
        vocab_size=info.vocab_size,
        max_context_tokens=info.max_context_tokens,
        has_drafter=info.has_drafter,
        shared_vocabulary=info.shared_vocabulary,
        is_cold=info.is_cold,
    )


def _round(message: generation_pb2.Round) -> Round:
    return Round(
        shape=policy_from_wire(message.policy) if message.policy.WhichOneof("policy") is not None else None,
        num_nodes=message.num_nodes,
        num_accepted=message.num_accepted,
        draft_us=message.draft_us,
        verify_us=message.verify_us,
        wire_us=message.wire_us,
        round_us=message.round_us,
        draft_wire_us=message.draft_wire_us,
        was_hedged=message.was_hedged,
        draft_was_late=message.draft_was_late,
    )


def _usage(message: generation_pb2.Usage) -> Usage:
    return Usage(**{field.name: getattr(message, field.name) for field in fields(Usage)})
