"""A request's verified tokens: from one verifier replica, or from the next when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import ContextLost, DraftpoolError, InternalError, NoCapacity, Unavailable, UnknownModel
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from draftpool.v1 import verifier_pb2
from draftpool.wire import sampling_to_wire, tree_to_wire
from orchestrator.fleet import Target
from orchestrator.model_stream import ModelStream
from orchestrator.replicas import choose_replica

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 5
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Verdict:
    """What the target chose.

    Attributes:
        chosen_token_ids: N + 1 ids; entry 0 after the last committed token, entry i + 1 after node i.
        chosen_logprobs: as long, or empty where not asked for.
        verify_us: queueing and computing, as the verifier reports them.
        elapsed_us: until the reply was here.
        opened_session: whether the verifier had to take in the whole context first.
        top_token_ids, top_logprobs: (N + 1) * n, row after row, most probable first; empty where not asked for.
        num_sessions: open at the verifier as it replied.
    """

    chosen_token_ids: tuple[int, ...]
    chosen_logprobs: tuple[float, ...]
    verify_us: int
    elapsed_us: int
    opened_session: bool = False
    top_token_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    num_sessions: int = 1

    def top(self, row: int) -> tuple[tuple[int, float], ...]:
        """What one row's choice could have been, (token id, log-probability), most probable first."""
        num_top = len(self.top_token_ids) // len(self.chosen_token_ids)
        share = slice(row * num_top, (row + 1) * num_top)
        return tuple(zip(self.top_token_ids[share], self.top_logprobs[share], strict=True))


class VerifySource:
    """The verifier's side of one request."""

    def __init__(
        self,
        target: Target,
        params: SamplingParams,
        *,
        num_prompt_tokens: int,
        timeout_s: float | None,
        want_logprobs: bool = False,
        num_top_logprobs: int = 0,
    ) -> None:
        self._target = target
        self._params = params
        self._num_prompt_tokens = num_prompt_tokens
        self._want_logprobs = want_logprobs or num_top_logprobs > 0
        self._num_top_logprobs = num_top_logprobs
        self._deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._stream: ModelStream[verifier_pb2.VerifyReply] | None = None

    async def verify(self, token_ids: Sequence[int], tree: DraftTree) -> Verdict:
        """The target's choice after `token_ids` and after every node of a tree.

        A replica that is lost costs a prefill on another one, or on itself once it is back; tokens never.

        Raises:
            DraftpoolError: the request is at fault, or no replica could be had in several attempts.
        """
        for attempt in range(1, _MAX_ATTEMPTS):
            try:
                return await self._ask(token_ids, tree)
            except (Unavailable, ContextLost, NoCapacity, UnknownModel) as error:
                log.warning("verifier lost, attempt %d of %d: %s", attempt, _MAX_ATTEMPTS, error.message)
                pause_s = max(_PAUSE_S * (attempt - 1), error.retry_after_s or 0)
            await asyncio.sleep(pause_s)
        return await self._ask(token_ids, tree)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    async def _ask(self, token_ids: Sequence[int], tree: DraftTree) -> Verdict:
        try:
            return await self._exchange(token_ids, tree)
        except DraftpoolError as error:
            self._drop(error)
            raise

    async def _exchange(self, token_ids: Sequence[int], tree: DraftTree) -> Verdict:
        stream = self._stream or self._open()
        is_new = stream.is_new
        message = verifier_pb2.VerifyRequest(
            committed_token_ids=stream.unsent(token_ids), tree=tree_to_wire(tree) if tree.num_nodes else None
        )
        if is_new:
            message.session.sampling.CopyFrom(sampling_to_wire(self._params))
            message.session.num_prompt_tokens = self._num_prompt_tokens
            message.session.want_logprobs = self._want_logprobs
            message.session.num_top_logprobs = self._num_top_logprobs
            message.session.model = self._target.name
            message.session.vocabulary_fingerprint = self._target.vocabulary.fingerprint
        reply, elapsed_us = await stream.exchange(message, num_tokens=len(token_ids))
        self._check(reply, tree)
        busy_us = min(elapsed_us, reply.timings.queue_us + reply.timings.verify_us)  # clocks differ
        return Verdict(
            tuple(reply.chosen_token_ids),
            tuple(reply.chosen_logprobs),
            busy_us,
            elapsed_us,
            is_new,
            tuple(reply.top_token_ids),
            tuple(reply.top_logprobs),
            reply.load.num_sessions,
        )

    def _check(self, reply: verifier_pb2.VerifyReply, tree: DraftTree) -> None:
        """Raises InternalError when a verifier breaks the contract: nobody's request is at fault."""
        num_rows = tree.num_nodes + 1
        num_logprobs = num_rows if self._want_logprobs else 0
        num_top = min(self._num_top_logprobs, len(self._target.vocabulary)) * num_rows
        if (len(reply.top_token_ids), len(reply.top_logprobs)) != (num_top, num_top):
            raise InternalError(
                f"a verifier of {self._target.name} named {len(reply.top_token_ids)} most probable tokens with "
                f"{len(reply.top_logprobs)} log-probabilities, not {num_top}"
            )
        if (len(reply.chosen_token_ids), len(reply.chosen_logprobs)) != (num_rows, num_logprobs):
            raise InternalError(
                f"a verifier of {self._target.name} chose {len(reply.chosen_token_ids)} tokens with "
                f"{len(reply.chosen_logprobs)} log-probabilities for a tree of {tree.num_nodes} nodes"
            )
        largest_id = max([*reply.chosen_token_ids, *reply.top_token_ids])
        if largest_id >= len(self._target.vocabulary):
            raise InternalError(f"a verifier of {self._target.name} speaks of token {largest_id}")

    def _open(self) -> ModelStream[verifier_pb2.VerifyReply]:
        replica = choose_replica(self._target.replicas)
        timeout_s = None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()
        self._stream = ModelStream(replica, replica.stub.Verify, timeout_s)
        return self._stream

    def _drop(self, error: DraftpoolError) -> None:
        """End the session; a replica that is gone is out until it has described itself again."""
        if self._stream is not None:
            if isinstance(error, Unavailable | UnknownModel):
                self._stream.replica.is_up = False
            self._stream.close()
            self._stream = None
