"""A request's verified tokens: from one verifier replica, or from the next when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftpool.errors import ContextLost, DraftpoolError, InternalError, NoCapacity, Unavailable, UnknownModel
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from draftpool.v1 import sampling_pb2, tree_pb2, verifier_pb2
from draftpool.wire import sampling_to_wire, tree_to_wire
from orchestrator.bandit.passes import VerifyPass
from orchestrator.fleet import Target
from orchestrator.liveness import StallPolicy
from orchestrator.model_stream import ModelStream
from orchestrator.patience import VerifyPatience
from orchestrator.recovery import Recovery
from orchestrator.replicas import Replica
from orchestrator.sparse_laws import SparseLaws
from orchestrator.target_laws import TargetLaws, target_laws

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What the target chose.

    Attributes:
        chosen_token_ids: N + 1 ids; entry 0 after the last committed token, entry i + 1 after node i. Under the
            rejection rule, chosen from outside of what the children were drawn from.
        chosen_logprobs: as long, or empty where not asked for.
        verify_us: queueing and computing, as the verifier reports them.
        elapsed_us: until the reply was here.
        opened_session: whether the verifier had to take in the whole context first.
        top_token_ids, top_logprobs: (N + 1) * n, row after row, most probable first; empty where not asked for.
        laws: the target's, under the rejection rule.
        num_lost: sessions lost on the way to this reply.
        num_sessions: open at the verifier as it replied.
        verify_pass: that the tree was in, the last of several.
    """

    chosen_token_ids: tuple[int, ...]
    chosen_logprobs: tuple[float, ...]
    verify_us: int
    elapsed_us: int
    opened_session: bool = False
    top_token_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    laws: TargetLaws | None = None
    num_lost: int = 0
    num_sessions: int = 1
    verify_pass: VerifyPass | None = None

    def logprob(self, row: int, token_id: int) -> float | None:
        """Of a token that the row's choice has become; None where not asked for."""
        place = None if self.laws is None else self.laws.inside.place(row, token_id)
        if self.laws is None or place is None:
            return self.chosen_logprobs[row] if self.chosen_logprobs else None
        return self.laws.logprobs[place] if self.laws.logprobs else None

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
        patience: VerifyPatience | None = None,
        want_logprobs: bool = False,
        num_top_logprobs: int = 0,
        is_rejection: bool = False,
    ) -> None:
        self._is_rejection = is_rejection
        self._target = target
        self._params = params
        self._num_prompt_tokens = num_prompt_tokens
        self._want_logprobs = want_logprobs or num_top_logprobs > 0
        self._num_top_logprobs = num_top_logprobs
        self._patience = patience or VerifyPatience()
        self._deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self._stream: ModelStream[verifier_pb2.VerifyReply] | None = None

    async def verify(self, token_ids: Sequence[int], tree: DraftTree, drawn_from: SparseLaws | None = None) -> Verdict:
        """The target's choice after `token_ids` and after every node of a tree.

        Under the rejection rule, its laws there too, on what the nodes were drawn from.

        A replica that is lost costs a prefill on another one, or on itself once it is back; tokens never.

        Raises:
            DraftpoolError: the request is at fault, or no replica could be had for as long as patience lasts.
        """
        clock = asyncio.get_running_loop().time
        recovery = Recovery(self._patience.recovery_s)
        failed: set[Replica] = set()
        while True:
            try:
                verdict = await self._ask(token_ids, tree, drawn_from, failed)
                return verdict if recovery.num_lost == 0 else replace(verdict, num_lost=recovery.num_lost)
            except (Unavailable, ContextLost, NoCapacity, UnknownModel) as error:
                has_another = any(replica.is_up and replica not in failed for replica in self._target.replicas)
                pause_s = recovery.pause_s(error, has_another=has_another, now_s=clock())
                log.warning("verifier lost, again in %.2f s: %s", pause_s, error.message)
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        """End the session; asked again, it opens another one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _ask(
        self, token_ids: Sequence[int], tree: DraftTree, drawn_from: SparseLaws | None, failed: set[Replica]
    ) -> Verdict:
        """One attempt; a replica that is lost by it is added to those that failed."""
        stream = self._stream or self._open(token_ids, failed)
        try:
            return await self._exchange(stream, token_ids, tree, drawn_from)
        except DraftpoolError as error:
            if isinstance(error, Unavailable | UnknownModel):  # it is gone, or has become another model
                stream.replica.report_failure(error.message)
            if not isinstance(error, ContextLost):  # whose replica is as good as any
                failed.add(stream.replica)
            stream.close()
            self._stream = None
            raise

    async def _exchange(
        self,
        stream: ModelStream[verifier_pb2.VerifyReply],
        token_ids: Sequence[int],
        tree: DraftTree,
        drawn_from: SparseLaws | None,
    ) -> Verdict:
        is_new = stream.is_new
        message = verifier_pb2.VerifyRequest(
            committed_token_ids=stream.unsent(token_ids), tree=tree_to_wire(tree) if tree.num_nodes else None
        )
        if self._is_rejection and drawn_from is not None:
            message.draft_support.CopyFrom(_support(drawn_from))
        if is_new:
            message.session.sampling.CopyFrom(sampling_to_wire(self._params))
            if self._is_rejection:
                message.session.acceptance_rule = sampling_pb2.ACCEPTANCE_RULE_REJECTION
            message.session.num_prompt_tokens = self._num_prompt_tokens
            message.session.want_logprobs = self._want_logprobs
            message.session.num_top_logprobs = self._num_top_logprobs
            message.session.model = self._target.name
            message.session.vocabulary_fingerprint = self._target.vocabulary.fingerprint
        reply, elapsed_us = await stream.exchange(message, num_tokens=len(token_ids))
        chosen_token_ids = reply.outside_token_ids if self._is_rejection else reply.chosen_token_ids
        self._check(reply, chosen_token_ids, tree)
        if not is_new:  # else it is mostly prefill
            self._target.plain_round.observe(elapsed_us / 1e6, num_nodes=tree.num_nodes)
        busy_us = min(elapsed_us, reply.timings.queue_us + reply.timings.verify_us)  # clocks differ
        return Verdict(
            tuple(chosen_token_ids),
            tuple(reply.chosen_logprobs),
            busy_us,
            elapsed_us,
            is_new,
            tuple(reply.top_token_ids),
            tuple(reply.top_logprobs),
            self._laws(reply, tree, drawn_from),
            num_sessions=reply.load.num_sessions,
            verify_pass=_pass(reply.timings),
        )

    def _laws(
        self, reply: verifier_pb2.VerifyReply, tree: DraftTree, drawn_from: SparseLaws | None
    ) -> TargetLaws | None:
        if not self._is_rejection:
            return None
        support = drawn_from or SparseLaws.empty(tree.num_nodes + 1)
        return target_laws(reply, support, has_logprobs=self._want_logprobs)

    def _check(self, reply: verifier_pb2.VerifyReply, chosen_token_ids: Sequence[int], tree: DraftTree) -> None:
        """Raises InternalError when a verifier breaks the contract: nobody's request is at fault."""
        num_rows = tree.num_nodes + 1
        num_logprobs = num_rows if self._want_logprobs else 0
        num_top = min(self._num_top_logprobs, len(self._target.vocabulary)) * num_rows
        if (len(reply.top_token_ids), len(reply.top_logprobs)) != (num_top, num_top):
            raise InternalError(
                f"a verifier of {self._target.name} named {len(reply.top_token_ids)} most probable tokens with "
                f"{len(reply.top_logprobs)} log-probabilities, not {num_top}"
            )
        if (len(chosen_token_ids), len(reply.chosen_logprobs)) != (num_rows, num_logprobs):
            raise InternalError(
                f"a verifier of {self._target.name} chose {len(chosen_token_ids)} tokens with "
                f"{len(reply.chosen_logprobs)} log-probabilities for a tree of {tree.num_nodes} nodes"
            )
        largest_id = max([*chosen_token_ids, *reply.top_token_ids])
        if largest_id >= len(self._target.vocabulary):
            raise InternalError(f"a verifier of {self._target.name} speaks of token {largest_id}")

    def _open(self, token_ids: Sequence[int], failed: set[Replica]) -> ModelStream[verifier_pb2.VerifyReply]:
        replica = self._target.choose_replica(token_ids, avoid=failed)
        timeout_s = None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()
        self._stream = ModelStream(
            replica, replica.stub.Verify, timeout_s=timeout_s, stall=StallPolicy(self._patience.stall_s)
        )
        return self._stream


def _pass(timings: verifier_pb2.VerifyTimings) -> VerifyPass | None:
    if not (timings.num_passes and timings.num_pass_sessions):
        return None
    seconds = timings.verify_us / 1e6 / timings.num_passes
    return VerifyPass(timings.num_pass_sessions, timings.num_pass_tokens, seconds)


def _support(laws: SparseLaws) -> tree_pb2.SparseRows:
    return tree_pb2.SparseRows(row_lengths=laws.row_lengths.tolist(), token_ids=laws.token_ids.tolist())
