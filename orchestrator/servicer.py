"""The public API on the wire: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from draftpool.errors import InternalError
from draftpool.rpc.interceptors import request_id
from draftpool.v1 import generation_pb2, generation_pb2_grpc
from draftpool.vocabulary import Vocabulary
from draftpool.wire import policy_to_wire
from orchestrator import metrics
from orchestrator.admission import Admission
from orchestrator.client_identity import client_of
from orchestrator.cold_start import ColdStarts
from orchestrator.drafting import DraftSource
from orchestrator.fleet import Fleet, Target
from orchestrator.generation import FinishReason, Generation, Round
from orchestrator.ledger import Ledger
from orchestrator.reader import Reader
from orchestrator.requests import CheckedRequest, check_request, priority_of
from orchestrator.rules import coupled, rejection
from orchestrator.settings import OrchestratorSettings
from orchestrator.situations import Situations
from orchestrator.text import TextToken
from orchestrator.verifying import VerifySource

Context = grpc.aio.ServicerContext

_FINISH_REASONS = {
    FinishReason.EOS: generation_pb2.FINISH_REASON_EOS,
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.STOP: generation_pb2.FINISH_REASON_STOP,
}


class GenerationServicer(generation_pb2_grpc.GenerationServicer):
    """Serves `draftpool.v1.Generation`."""

    def __init__(
        self,
        fleet: Fleet,
        cold_starts: ColdStarts,
        situations: Situations,
        admission: Admission,
        settings: OrchestratorSettings,
    ) -> None:
        self._fleet = fleet
        self._cold_starts = cold_starts
        self._situations = situations
        self._admission = admission
        self._settings = settings

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_pb2.GenerateReply]:
        ledger = Ledger()
        async with self._cold_starts.found(request.model) as found:
            ledger.start(waited_s=found.waited_s)
            async with aclosing(self._replies(request, context, found.target, ledger)) as replies:
                async for reply in replies:
                    yield reply

    async def ListModels(
        self, _request: generation_pb2.ListModelsRequest, _context: Context[Any, Any]
    ) -> generation_pb2.ListModelsReply:
        models = {name: self._model_info(target) for name, target in self._fleet.targets.items() if target.is_up}
        models |= {name: self._cold_model_info(name) for name in self._cold_starts.cold_names}
        return generation_pb2.ListModelsReply(models=[models[name] for name in sorted(models)])

    async def _replies(
        self,
        request: generation_pb2.GenerateRequest,
        context: Context[Any, Any],
        target: Target,
        ledger: Ledger,
    ) -> AsyncGenerator[generation_pb2.GenerateReply, None]:
        last = generation_pb2.GenerateReply()
        async with self._admission.admitted(client_of(context), priority_of(request)) as place:
            checked = await check_request(request, target)
            ledger.admit(checked, waited_s=place.waited_s)
            generation = self._generation(target, checked, context.time_remaining())
            reader = Reader(generation, place, slow_after_s=self._settings.slow_reader_s)
            async with aclosing(generation.rounds()) as rounds:
                async with reader.taking():
                    yield _start_reply(checked)
                async for round_ in rounds:
                    ledger.add(round_)
                    metrics.observe_round(target.name, round_)
                    reply = _round_reply(round_, target.vocabulary, want_round=checked.want_rounds)
                    if generation.finish is not None:
                        last = reply
                        break
                    async with reader.taking():
                        yield reply
                    ledger.wait(reader_s=reader.waited_s, queue_s=place.waited_s)
        last.finish.CopyFrom(_finish(generation, ledger))  # the place is free: the client may take its time with it
        yield last

    def _generation(self, target: Target, checked: CheckedRequest, timeout_s: float | None) -> Generation:
        return Generation(
            checked.prompt_token_ids,
            vocabulary=target.vocabulary,
            limits=checked.limits,
            drafts=DraftSource(
                self._fleet,
                target,
                checked.params.for_drafter(),
                patience=self._settings.draft_patience,
                is_rejection=checked.is_rejection,
            ),
            verifier=VerifySource(
                target,
                checked.params,
                num_prompt_tokens=len(checked.prompt_token_ids),
                timeout_s=timeout_s,
                patience=self._settings.verify_patience,
                want_logprobs=checked.want_logprobs,
                num_top_logprobs=checked.num_top_logprobs,
                is_rejection=checked.is_rejection,
            ),
            bandit=self._situations.bandit(target, checked.sampling_class),
            fixed_shape=checked.fixed_shape,
            resumed_token_ids=checked.resumed_token_ids,
            accept=rejection(checked.params.seed) if checked.is_rejection else coupled,
        )

    def _model_info(self, target: Target) -> generation_pb2.ModelInfo:
        share = self._fleet.shared_vocabulary(target)
        return generation_pb2.ModelInfo(
            name=target.name,
            architecture=target.description.architecture,
            dtype=target.description.dtype,
            num_parameters=target.description.num_parameters,
            vocab_size=len(target.vocabulary),
            max_context_tokens=target.description.max_context_tokens,
            has_drafter=share is not None,
            shared_vocabulary=share or 0.0,
            max_tree_nodes=target.description.max_tree_nodes,
        )

    def _cold_model_info(self, name: str) -> generation_pb2.ModelInfo:
        """What was known of it when it was last served, which is nothing of one that never was."""
        remembered = self._fleet.targets.get(name)
        info = generation_pb2.ModelInfo(name=name) if remembered is None else self._model_info(remembered)
        info.is_cold = True
        return info


def _start_reply(checked: CheckedRequest) -> generation_pb2.GenerateReply:
    return generation_pb2.GenerateReply(
        start=generation_pb2.GenerationStart(
            request_id=request_id.get(),
            seed=checked.params.seed,
            num_prompt_tokens=len(checked.prompt_token_ids),
        )
    )


def _round_reply(round_: Round, vocabulary: Vocabulary, *, want_round: bool) -> generation_pb2.GenerateReply:
    reply = generation_pb2.GenerateReply(tokens=[_token(token, vocabulary) for token in round_.tokens])
    if want_round:
        reply.round.CopyFrom(_round(round_))
    return reply


def _finish(generation: Generation, ledger: Ledger) -> generation_pb2.GenerationFinish:
    if generation.finish is None:
        raise InternalError("a generation ended without a reason")
    return generation_pb2.GenerationFinish(
        reason=_FINISH_REASONS[generation.finish],
        matched_stop=generation.matched_stop,
        matched_stop_token_id=generation.matched_stop_token_id,
        usage=ledger.total(),
    )


def _token(token: TextToken, vocabulary: Vocabulary) -> generation_pb2.GeneratedToken:
    tops = [
        generation_pb2.TopLogprob(
            id=token_id, logprob=logprob, text=vocabulary.token_bytes[token_id].decode(errors="replace")
        )
        for token_id, logprob in token.top_logprobs
    ]
    return generation_pb2.GeneratedToken(
        id=token.token_id, text=token.text, drafted=token.drafted, logprob=token.logprob, top_logprobs=tops
    )


def _round(round_: Round) -> generation_pb2.Round:
    return generation_pb2.Round(
        policy=policy_to_wire(round_.shape),
        num_nodes=round_.tree.num_nodes,
        num_accepted=round_.num_accepted,
        draft_us=round_.draft_us,
        verify_us=round_.verify_us,
        round_us=round_.round_us,
        wire_us=round_.wire_us,
        draft_wire_us=round_.draft_wire_us,
        was_hedged=round_.was_hedged,
        draft_was_late=round_.draft_was_late,
    )
