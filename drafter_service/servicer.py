"""The gRPC face of a drafter: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from drafter_service.engine import DraftJob, DraftResult
from drafter_service.replica import DrafterReplica
from drafter_service.session import Session
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool import wire
from draftpool.errors import BrokenProtocol
from draftpool.tree import NO_DRAFT
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc


class DrafterServicer(drafter_pb2_grpc.DrafterServicer):
    """Serves one replica."""

    def __init__(self, replica: DrafterReplica) -> None:
        self._replica = replica

    async def Draft(
        self, requests: AsyncIterator[drafter_pb2.DraftRequest], _context: object
    ) -> AsyncIterator[drafter_pb2.DraftReply]:
        """One stream, one session: however the stream ends, the session's memory is free at once."""
        session: Session | None = None
        try:
            async for request in requests:
                session = self._session(request, session)
                yield await self._draft(request, session)
        finally:
            if session is not None:
                self._close(session)

    async def RegisterVocabulary(
        self, request: drafter_pb2.RegisterVocabularyRequest, _context: object
    ) -> drafter_pb2.RegisterVocabularyReply:
        # A big vocabulary takes a good part of a second to hash and match.
        bridge = await asyncio.to_thread(self._build_bridge, request)
        self._replica.bridges.add(bridge)
        return drafter_pb2.RegisterVocabularyReply(
            num_shared_tokens=bridge.num_shared_tokens, num_target_tokens=len(bridge.target)
        )

    async def Describe(
        self, request: drafter_pb2.DescribeDrafterRequest, _context: object
    ) -> drafter_pb2.DescribeDrafterReply:
        replica = self._replica
        if request.load_only:
            return drafter_pb2.DescribeDrafterReply(load=replica.load())
        return drafter_pb2.DescribeDrafterReply(
            model=replica.settings.display_name,
            num_parameters=replica.model.num_parameters,
            max_tree_nodes=replica.settings.max_tree_nodes,
            session_state_bytes=replica.model.slot_bytes,
            load=replica.load(),
        )

    def _session(self, request: drafter_pb2.DraftRequest, session: Session | None) -> Session:
        """The stream's session, made from its first message.

        Raises:
            BrokenProtocol: the first message has no session, or a later one has.
            UnknownVocabulary: the session's vocabulary was not registered, or was forgotten.
        """
        if request.HasField("session") == (session is not None):
            raise BrokenProtocol("a stream's first message, and only the first, carries `session`")
        if session is not None:
            return session
        is_drawn = wire.is_rejection(request.session.acceptance_rule)
        bridge = self._replica.bridges.get(request.session.vocabulary_fingerprint)
        return Session(bridge, wire.sampling_from_wire(request.session.sampling), is_drawn=is_drawn)

    async def _draft(self, request: drafter_pb2.DraftRequest, session: Session) -> drafter_pb2.DraftReply:
        policy = wire.policy_from_wire(request.policy) if request.HasField("policy") else NO_DRAFT
        job = DraftJob(session, list(request.committed_token_ids), policy)
        await self._replica.thread.submit(job)
        draft = job.future.result()
        self._replica.count_draft(draft)
        return self._reply(draft)

    def _close(self, session: Session) -> None:
        self._replica.thread.call(lambda: self._replica.engine.close_session(session))

    def _build_bridge(self, request: drafter_pb2.RegisterVocabularyRequest) -> VocabularyBridge:
        return VocabularyBridge(self._replica.speller, wire.vocabulary_from_wire(request.vocabulary))

    def _reply(self, draft: DraftResult) -> drafter_pb2.DraftReply:
        return drafter_pb2.DraftReply(
            tree=wire.tree_to_wire(draft.tree),
            timings=drafter_pb2.DraftTimings(queue_us=draft.queue_us, draft_us=draft.draft_us),
            load=self._replica.load(),
            draft_probs=wire.rows_to_wire(draft.supports) if draft.supports else None,
        )
