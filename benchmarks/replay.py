"""How many tokens a verify pass would bring, without verifying: texts that a target has written are drafted again.

Under the coupled rule a target's tokens do not depend on what is drafted. So a target writes each text once, and every
drafter, policy and vocabulary bridge is then measured against the same texts, exactly and without timing anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from drafter_service.engine import DraftJob
from drafter_service.replica import DrafterReplica
from drafter_service.session import Session
from drafter_service.settings import DrafterSettings
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.embedded import embedded_path
from draftpool.sampling import SamplingParams
from draftpool.tree_policy import TreePolicy
from verifier_service.choosing import Chooser
from verifier_service.engine import TargetEngine
from verifier_service.job import VerifyJob
from verifier_service.limits import EngineLimits
from verifier_service.readiness import load, make_ready
from verifier_service.schedule import PassLimits
from verifier_service.settings import VerifierSettings


@dataclass(frozen=True)
class Written:
    """A prompt and what a target wrote after it."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    params: SamplingParams


@dataclass(frozen=True)
class Replayed:
    """What drafting would have brought, over all texts.

    Attributes:
        tokens_per_pass: the mean, the bonus token included.
        nodes_per_pass, steps_per_pass: of a draft.
    """

    tokens_per_pass: float
    nodes_per_pass: float
    steps_per_pass: float


class Writer:
    """An embedded target, without gRPC, all texts in one batch.

    Attributes:
        engine: takes trees of up to 128 nodes.
    """

    def __init__(self, name: str, *, dtype: str, num_threads: int) -> None:
        self.name = name
        options = {"model": str(embedded_path(name)), "dtype": dtype, "num_threads": num_threads, "kv_tokens": 65536}
        settings = VerifierSettings.model_validate(options)
        ready = make_ready(load(settings), settings)
        self.target = ready.target
        self._tokenizer = Tokenizer.from_str(self.target.tokenizer_json)
        limits = EngineLimits(128, self.target.max_context_tokens, 128, PassLimits(1024, 512))
        self.engine = TargetEngine(ready.runner, ready.pool, limits, self.target.vocab_size)

    def encode(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(self._tokenizer.encode(prompt).ids) for prompt in prompts]

    @torch.inference_mode()
    def write(self, prompts: Sequence[str], temperature: float, max_new_tokens: int) -> list[Written]:
        """Every prompt's answer; the seed is the prompt's number."""
        texts = self.encode(prompts)
        params = [SamplingParams(temperature=temperature, seed=seed) for seed in range(len(texts))]
        answers = [self.engine.new_session(Chooser(own, self.target.vocab_size)) for own in params]
        committed = dict(enumerate(texts))
        for _ in range(max_new_tokens):
            jobs = {number: VerifyJob(answers[number], tokens) for number, tokens in committed.items()}
            while waiting := [job for job in jobs.values() if job.is_open]:
                self.engine.turn(waiting)
            chosen = {number: job.future.result().choice.token_ids[0] for number, job in jobs.items()}
            eos_ids = self.target.vocabulary.eos_token_ids
            committed = {number: (token_id,) for number, token_id in chosen.items() if token_id not in eos_ids}
        written = [
            Written(text, tuple(session.token_ids[len(text) :]), own)
            for text, session, own in zip(texts, answers, params, strict=True)
        ]
        for session in answers:
            self.engine.close_session(session)
        return written


def embedded_drafter(num_threads: int, max_sessions: int = 2) -> DrafterReplica:
    model = str(embedded_path("tiny-mamba-drafter"))
    options = {
        "model": model,
        "num_threads": num_threads,
        "max_sessions": max_sessions,
        "max_tree_nodes": 128,
        "state_memory_mib": 64 * max_sessions,
    }
    return DrafterReplica(DrafterSettings.model_validate(options))


def replay(
    drafter: DrafterReplica,
    bridge: VocabularyBridge,
    policy: TreePolicy,
    texts: Sequence[Written],
    *,
    is_plain: bool = False,
) -> Replayed:
    """Draft every text again, round by round."""
    num_passes = num_tokens = num_nodes = num_steps = 0
    for text in texts:
        session = Session(bridge, text.params, is_plain=is_plain)
        committed, left = text.prompt_ids, text.answer_ids
        while left:
            job = DraftJob(session, committed, policy)
            while job.is_open:
                drafter.engine.turn([job])
            draft = job.future.result()
            committed = left[: len(draft.tree.walk(left)) + 1]
            left = left[len(committed) :]
            num_passes += 1
            num_tokens += len(committed)
            num_nodes += draft.tree.num_nodes
            num_steps += draft.num_steps
        drafter.engine.close_session(session)
    return Replayed(num_tokens / num_passes, num_nodes / num_passes, num_steps / num_passes)


def read_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        return list(lines)
