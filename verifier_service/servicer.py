"""The gRPC face of a verifier: decode, call, encode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc

from draftpool import wire
from draftpool.errors import BadParameter, BrokenProtocol, UnknownModel
from draftpool.tree import DraftTree
from draftpool.v1 import tree_pb2, verifier_pb2, verifier_pb2_grpc
from verifier_service.choosing import Choice, Chooser
from verifier_service.grammar import GrammarCompiler
from verifier_service.job import Verdict, VerifyJob
from verifier_service.replica import VerifierReplica
from verifier_service.session import Session
from verifier_service.support import Support


@dataclass(frozen=True)
class _Terms:
    """What a stream's first message says of all its messages.

    Attributes:
        is_rejection: whether replies are those of the rejection rule; at temperature 0 they never are.
        expires_at: as in `VerifyJob`.
    """

    session: Session
    want_logprobs: bool
    is_rejection: bool
    expires_at: float


class VerifierServicer(verifier_pb2_grpc.VerifierServicer):
    """Serves one replica."""

    def __init__(self, replica: VerifierReplica) -> None:
        self._replica = replica
        self._grammars = GrammarCompiler(replica.target.vocabulary, replica.target.tokenizer_json)
        self._unused_token_ids = replica.target.unused_ids.tolist()

    async def Verify(
        self, requests: AsyncIterator[verifier_pb2.VerifyRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[verifier_pb2.VerifyReply]:
        """One stream, one session: however the stream ends, the session's memory is free at once."""
        terms: _Terms | None = None
        try:
            async for request in requests:
                if terms is None:
                    terms = await self._open(request, self._expires_at(context))
                elif request.HasField("session"):
                    raise BrokenProtocol("only a stream's first message carries `session`")
                yield await self._verify(request, terms)
        finally:
            if terms is not None:
                self._close(terms.session)

    async def Describe(
        self, request: verifier_pb2.DescribeVerifierRequest, _context: object
    ) -> verifier_pb2.DescribeVerifierReply:
        reply = verifier_pb2.DescribeVerifierReply(load=self._replica.load())
        if not request.load_only:
            reply.MergeFrom(self._description)
        return reply

    @cached_property
    def _description(self) -> verifier_pb2.DescribeVerifierReply:
        """All but the load, made once: a vocabulary is big."""
        target, limits = self._replica.target, self._replica.limits
        return verifier_pb2.DescribeVerifierReply(
            model=target.name,
            tokenizer_json=target.tokenizer_json.encode(),
            vocabulary=wire.vocabulary_to_wire(target.vocabulary),
            max_context_tokens=limits.max_context_tokens,
            max_tree_nodes=limits.max_tree_nodes,
            num_parameters=target.num_parameters,
            dtype=str(target.dtype).removeprefix("torch."),
            architecture=target.architecture,
        )

    async def _open(self, request: verifier_pb2.VerifyRequest, expires_at: float) -> _Terms:
        """The session that a stream's first message asks for, and on what terms; it holds nothing yet.

        Raises:
            BrokenProtocol: the message has no session.
            BadParameter: a sampling parameter out of its range, no seed to sample with, or a grammar that is wrong.
            TokenOutOfVocabulary: a parameter names a token that the target does not have.
            Unsupported: an acceptance rule that is not served.
            UnknownModel: the caller takes this replica for one of another model or vocabulary.
        """
        if not request.HasField("session"):
            raise BrokenProtocol("a stream's first message carries `session`")
        is_rejection = wire.is_rejection(request.session.acceptance_rule)
        self._require_served(request.session)
        chooser = await self._chooser(request)
        return _Terms(
            session=self._replica.engine.new_session(chooser),
            want_logprobs=request.session.want_logprobs or chooser.num_top_logprobs > 0,
            is_rejection=is_rejection and not chooser.params.is_greedy,
            expires_at=expires_at,
        )

    async def _chooser(self, request: verifier_pb2.VerifyRequest) -> Chooser:
        asked, vocabulary = request.session, self._replica.target.vocabulary
        params = wire.sampling_from_wire(asked.sampling)
        num_committed = len(request.committed_token_ids)
        num_prompt_tokens = asked.num_prompt_tokens if asked.HasField("num_prompt_tokens") else num_committed
        if num_prompt_tokens > num_committed:
            raise BadParameter(f"num_prompt_tokens is {num_prompt_tokens}, but {num_committed} tokens were sent")
        grammar = None if params.grammar is None else await asyncio.to_thread(self._grammars.start, params.grammar)
        return Chooser(
            params,
            len(vocabulary),
            num_prompt_tokens=num_prompt_tokens,
            num_top_logprobs=wire.num_top_logprobs_from_wire(asked.num_top_logprobs, len(vocabulary)),
            eos_token_ids=vocabulary.eos_token_ids,
            unused_token_ids=self._unused_token_ids,
            grammar=grammar,
        )

    def _require_served(self, session: verifier_pb2.VerifySession) -> None:
        target = self._replica.target
        for said, true in (
            (session.model, target.name),
            (session.vocabulary_fingerprint, target.vocabulary.fingerprint),
        ):
            if said not in ("", true):
                raise UnknownModel(
                    f"this verifier serves {target.name!r} with vocabulary {target.vocabulary.fingerprint}"
                )

    async def _verify(self, request: verifier_pb2.VerifyRequest, terms: _Terms) -> verifier_pb2.VerifyReply:
        session = terms.session
        committed_token_ids, tree = list(request.committed_token_ids), wire.tree_from_wire(request.tree)
        support = _support(request, tree, is_rejection=terms.is_rejection)
        if session.chooser.params.grammar is not None:  # a hard grammar delays its own request only
            await asyncio.to_thread(session.chooser.foresee, [*session.token_ids, *committed_token_ids], tree)
        job = VerifyJob(
            session,
            committed_token_ids,
            tree,
            want_logprobs=terms.want_logprobs,
            support=support,
            expires_at=terms.expires_at,
        )
        await self._replica.thread.submit(job)
        verdict = job.future.result()
        self._replica.count_wait(verdict.queue_us)
        return self._reply(verdict, support)

    def _expires_at(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """When a session that found no room is refused: a little before the caller would give up."""
        remaining_s = context.time_remaining()
        max_wait_s = self._replica.settings.max_wait_s
        return time.monotonic() + (max_wait_s if remaining_s is None else min(max_wait_s, 0.9 * remaining_s))

    def _close(self, session: Session) -> None:
        self._replica.thread.call(lambda: self._replica.engine.close_session(session))

    def _reply(self, verdict: Verdict, support: Support | None) -> verifier_pb2.VerifyReply:
        reply = verifier_pb2.VerifyReply(
            chosen_logprobs=verdict.choice.logprobs,
            top_token_ids=verdict.choice.top_token_ids,
            top_logprobs=verdict.choice.top_logprobs,
            timings=verifier_pb2.VerifyTimings(
                queue_us=verdict.queue_us,
                verify_us=verdict.verify_us,
                num_passes=verdict.num_passes,
                num_computed_tokens=verdict.num_computed_tokens,
                num_pass_sessions=verdict.num_pass_sessions,
                num_pass_tokens=verdict.num_pass_tokens,
            ),
            load=self._replica.load(),
        )
        if support is None:
            reply.chosen_token_ids.extend(verdict.choice.token_ids)
        else:
            _add_law(reply, verdict.choice, support)
        return reply


def _support(request: verifier_pb2.VerifyRequest, tree: DraftTree, *, is_rejection: bool) -> Support | None:
    """What the reply's laws are wanted on; None where it has none.

    Raises:
        BadParameter: a support that the session's rule has no use for, or probabilities, which are not asked for.
    """
    asked = request.draft_support
    if not is_rejection:
        if request.HasField("draft_support"):
            raise BadParameter(
                "draft_support belongs to sessions of ACCEPTANCE_RULE_REJECTION with a temperature above 0"
            )
        return None
    if not request.HasField("draft_support"):
        return Support.empty(tree.num_nodes + 1)
    if asked.probs:
        raise BadParameter("draft_support takes no probabilities: the draft's are no business of the target")
    return Support(tuple(asked.row_lengths), tuple(asked.token_ids))


def _add_law(reply: verifier_pb2.VerifyReply, choice: Choice, support: Support) -> None:
    reply.target_probs.CopyFrom(tree_pb2.SparseRows(row_lengths=support.row_lengths, probs=choice.support_probs))
    reply.outside_token_ids.extend(choice.token_ids)
    reply.outside_probs.extend(choice.outside_probs)
    reply.support_logprobs.extend(choice.support_logprobs)
