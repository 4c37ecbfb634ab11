"""The gRPC face of a verifier: decode, call, encode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

import grpc

from draftpool import wire
from draftpool.errors import BadParameter, BrokenProtocol, UnknownModel, Unsupported
from draftpool.v1 import load_pb2, verifier_pb2, verifier_pb2_grpc
from verifier_service import metrics
from verifier_service.choosing import Chooser
from verifier_service.grammar import GrammarCompiler
from verifier_service.job import Verdict, VerifyJob
from verifier_service.replica import VerifierReplica
from verifier_service.session import Session


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
        session: Session | None = None
        want_logprobs = False
        expires_at = 0.0
        try:
            async for request in requests:
                if session is None:
                    session = await self._open(request)
                    want_logprobs = request.session.want_logprobs
                    expires_at = self._expires_at(context)
                elif request.HasField("session"):
                    raise BrokenProtocol("only a stream's first message carries `session`")
                yield await self._verify(request, session, expires_at, want_logprobs=want_logprobs)
        finally:
            if session is not None:
                self._close(session)

    async def Describe(
        self, _request: verifier_pb2.DescribeVerifierRequest, _context: object
    ) -> verifier_pb2.DescribeVerifierReply:
        reply = verifier_pb2.DescribeVerifierReply(load=self._load())
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

    async def _open(self, request: verifier_pb2.VerifyRequest) -> Session:
        """The session that a stream's first message asks for; it holds nothing yet.

        Raises:
            BrokenProtocol: the message has no session.
            BadParameter: a sampling parameter out of its range, no seed to sample with, or a grammar that is wrong.
            TokenOutOfVocabulary: a parameter names a token that the target does not have.
            Unsupported: an acceptance rule that is not served.
            UnknownModel: the caller takes this replica for one of another model or vocabulary.
        """
        if not request.HasField("session"):
            raise BrokenProtocol("a stream's first message carries `session`")
        wire.require_coupled(request.session.acceptance_rule)
        self._require_served(request.session)
        return self._replica.engine.new_session(await self._chooser(request))

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

    async def _verify(
        self, request: verifier_pb2.VerifyRequest, session: Session, expires_at: float, *, want_logprobs: bool
    ) -> verifier_pb2.VerifyReply:
        if request.HasField("draft_support"):
            raise Unsupported("this server accepts drafts by the coupled rule only; leave draft_support unset")
        committed_token_ids, tree = list(request.committed_token_ids), wire.tree_from_wire(request.tree)
        if session.chooser.params.grammar is not None:  # a hard grammar delays its own request only
            await asyncio.to_thread(session.chooser.foresee, [*session.token_ids, *committed_token_ids], tree)
        job = VerifyJob(
            session,
            committed_token_ids,
            tree,
            want_logprobs=want_logprobs,
            expires_at=expires_at,
        )
        await self._replica.thread.submit(job)
        verdict = job.future.result()
        metrics.QUEUE_SECONDS.observe(verdict.queue_us / 1e6)
        return self._reply(verdict)

    def _expires_at(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """When a session that found no room is refused: a little before the caller would give up."""
        remaining_s = context.time_remaining()
        max_wait_s = self._replica.settings.max_wait_s
        return time.monotonic() + (max_wait_s if remaining_s is None else min(max_wait_s, 0.9 * remaining_s))

    def _close(self, session: Session) -> None:
        self._replica.thread.call(lambda: self._replica.engine.close_session(session))

    def _reply(self, verdict: Verdict) -> verifier_pb2.VerifyReply:
        return verifier_pb2.VerifyReply(
            chosen_token_ids=verdict.choice.token_ids,
            chosen_logprobs=verdict.choice.logprobs,
            top_token_ids=verdict.choice.top_token_ids,
            top_logprobs=verdict.choice.top_logprobs,
            timings=verifier_pb2.VerifyTimings(
                queue_us=verdict.queue_us,
                verify_us=verdict.verify_us,
                num_passes=verdict.num_passes,
                num_computed_tokens=verdict.num_computed_tokens,
            ),
            load=self._load(),
        )

    def _load(self) -> load_pb2.ReplicaLoad:
        replica = self._replica
        return wire.load_to_wire(
            num_sessions=replica.engine.num_sessions,
            max_sessions=replica.limits.max_sessions,
            num_waiting=replica.thread.num_waiting,
        )
