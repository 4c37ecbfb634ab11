"""What every arm would have done at every place of many texts, and what rounds take: recorded once, replayed often.

Under the coupled rule a target's text does not depend on what is drafted. So the target writes each text once, and
every arm's draft at every position is held against it; whatever a bandit then chooses, its outcome is known. Times are
of real drafts and passes, in one process, the arms in turn.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.replay import Writer, Written
from drafter_service.engine import DraftJob
from drafter_service.replica import DrafterReplica
from drafter_service.session import Session
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.tree import DraftTree
from draftpool.tree_policy import TreePolicy
from orchestrator.settings import DEFAULT_ARMS
from verifier_service.choosing import Chooser
from verifier_service.job import VerifyJob

LOADS = (1, 4, 16)
"""Sessions in lock-step, for which times are taken."""

DRAFTED_ARMS = tuple(arm for arm in DEFAULT_ARMS if arm.depth > 0)
_ARM_OF = {str(arm): arm for arm in DEFAULT_ARMS}
_BATCH = 32
_LOOK_AHEAD = 8
"""Tokens written beyond the last position drafted at: a text that goes on costs no deep tree its depth."""

_MAX_TEXT = 400
"""Tokens after which a timed session begins anew: times are of texts of this size."""


@dataclass(frozen=True)
class Place:
    """One arm's draft at one position of a text.

    Attributes:
        parents: of the tree drawn.
        accepted_nodes: those that the text follows.
        num_tokens: emitted, the bonus token included; fewer than accepted where the text ends.
    """

    parents: tuple[int, ...]
    accepted_nodes: tuple[int, ...]
    num_tokens: int

    @cached_property
    def tree(self) -> DraftTree:
        """The tokens are made up: what they were is in `accepted_nodes`."""
        return DraftTree(tuple(range(len(self.parents))), self.parents)


@dataclass(frozen=True)
class RecordedText:
    """A text and every arm's drafts along it.

    Attributes:
        places: for every arm that drafts, one a position.
    """

    target: str
    sampling: str
    suite: str
    places: dict[TreePolicy, list[Place]]

    @property
    def num_positions(self) -> int:
        """At which every arm has drafted."""
        return len(self.places[DRAFTED_ARMS[0]])


@dataclass(frozen=True)
class TimedPass:
    """One round of sessions in lock-step, all with the same arm.

    Attributes:
        num_nodes: of all their trees together.
    """

    arm: TreePolicy
    num_nodes: int
    draft_s: float
    verify_s: float


Times = dict[tuple[str, str, int], list[TimedPass]]
"""(target, sampling, number of sessions) to passes."""


@dataclass(frozen=True)
class Recording:
    """Everything that a replay needs."""

    texts: list[RecordedText]
    times: Times


def record_texts(
    writer: Writer, drafter: DrafterReplica, suites: dict[str, list[str]], temperature: float, num_positions: int
) -> Iterator[RecordedText]:
    """Every arm at the first positions of what a target writes."""
    bridge = VocabularyBridge(drafter.speller, writer.target.vocabulary)
    for suite, prompts in suites.items():
        texts = [text for text in writer.write(prompts, temperature, num_positions + _LOOK_AHEAD) if text.answer_ids]
        for begin in range(0, len(texts), _BATCH):
            batch = texts[begin : begin + _BATCH]
            for places in _places(drafter, bridge, batch, num_positions):
                yield RecordedText(writer.name, sampling_name(temperature), suite, places)


def _places(
    drafter: DrafterReplica, bridge: VocabularyBridge, texts: Sequence[Written], num_positions: int
) -> list[dict[TreePolicy, list[Place]]]:
    sessions = [Session(bridge, text.params) for text in texts]
    places: list[dict[TreePolicy, list[Place]]] = [{arm: [] for arm in DRAFTED_ARMS} for _ in texts]
    for position in range(min(num_positions, max(len(text.answer_ids) for text in texts))):
        alive = [index for index, text in enumerate(texts) if position < len(text.answer_ids)]
        committed = {
            index: texts[index].answer_ids[position - 1 : position] if position else texts[index].prompt_ids
            for index in alive
        }
        for arm in DRAFTED_ARMS:
            trees = _draft(drafter, [DraftJob(sessions[index], committed.pop(index, ()), arm) for index in alive])
            for index, tree in zip(alive, trees, strict=True):
                left = texts[index].answer_ids[position:]
                accepted = tree.walk(left)
                places[index][arm].append(Place(tree.parents, accepted, min(len(accepted) + 1, len(left))))
    for session in sessions:
        drafter.engine.close_session(session)
    return places


def _draft(drafter: DrafterReplica, jobs: Sequence[DraftJob]) -> list[DraftTree]:
    while waiting := [job for job in jobs if job.is_open]:
        drafter.engine.turn(waiting)
    return [job.future.result().tree for job in jobs]


class Crowd:
    """Sessions that draft and verify in lock-step, for their times."""

    def __init__(self, writer: Writer, drafter: DrafterReplica, texts: Sequence[Written]) -> None:
        self._writer = writer
        self._drafter = drafter
        self._bridge = VocabularyBridge(drafter.speller, writer.target.vocabulary)
        self._texts = texts
        self._num_tokens = [0] * len(texts)
        self._undrafted: list[tuple[int, ...]] = []
        self._open()

    def time(self, arm: TreePolicy) -> TimedPass:
        """One round of everybody."""
        if max(self._num_tokens) > _MAX_TEXT:
            self.close()
            self._open()
        begun = time.perf_counter()
        if arm.depth == 0:
            trees = [DraftTree((), ())] * len(self._texts)
        else:
            drafting = zip(self._drafts, self._undrafted, strict=True)
            trees = _draft(self._drafter, [DraftJob(session, tokens, arm) for session, tokens in drafting])
            self._undrafted = self._nothing()
        drafted = time.perf_counter()
        self._verify(trees)
        return TimedPass(arm, sum(tree.num_nodes for tree in trees), drafted - begun, time.perf_counter() - drafted)

    def close(self) -> None:
        for session in self._drafts:
            self._drafter.engine.close_session(session)
        for answer in self._answers:
            self._writer.engine.close_session(answer)

    def _open(self) -> None:
        vocab_size = self._writer.target.vocab_size
        self._drafts = [Session(self._bridge, text.params) for text in self._texts]
        self._answers = [self._writer.engine.new_session(Chooser(text.params, vocab_size)) for text in self._texts]
        self._committed: list[tuple[int, ...]] = [text.prompt_ids[-_MAX_TEXT // 2 :] for text in self._texts]
        self._undrafted = list(self._committed)
        self._num_tokens = [0] * len(self._texts)
        for _ in range(2):  # what the prompts take is no property of a round
            drafting = zip(self._drafts, self._undrafted, strict=True)
            trees = _draft(self._drafter, [DraftJob(session, own, DRAFTED_ARMS[0]) for session, own in drafting])
            self._undrafted = self._nothing()
            self._verify(trees)

    def _nothing(self) -> list[tuple[int, ...]]:
        return [()] * len(self._texts)

    def _verify(self, trees: Sequence[DraftTree]) -> None:
        answering = zip(self._answers, self._committed, trees, strict=True)
        jobs = [VerifyJob(answer, tokens, tree) for answer, tokens, tree in answering]
        while waiting := [job for job in jobs if job.is_open]:
            self._writer.engine.turn(waiting)
        for index, (job, tree) in enumerate(zip(jobs, trees, strict=True)):
            chosen = job.future.result().choice.token_ids
            path, node = [chosen[0]], tree.child(-1, chosen[0])
            while node is not None:
                path.append(chosen[node + 1])
                node = tree.child(node, path[-1])
            self._committed[index] = tuple(path)
            self._undrafted[index] = (*self._undrafted[index], *path)
            self._num_tokens[index] += len(path)


@torch.inference_mode()
def record_times(
    writer: Writer, drafter: DrafterReplica, prompts: Sequence[str], temperatures: Sequence[float], num_rounds: int
) -> Times:
    """All arms in turn, in an order that changes, and all loads in turn: what disturbs one disturbs all alike."""
    crowds = {
        (writer.name, sampling_name(temperature), num_sessions): Crowd(
            writer, drafter, writer.write(prompts[:num_sessions], temperature, 1)
        )
        for temperature in temperatures
        for num_sessions in LOADS
    }
    times: Times = {key: [] for key in crowds}
    for _ in range(num_rounds):
        for key, crowd in crowds.items():
            times[key] += [crowd.time(arm) for arm in random.sample(DEFAULT_ARMS, len(DEFAULT_ARMS))]
    for crowd in crowds.values():
        crowd.close()
    return times


def sampling_name(temperature: float) -> str:
    return "greedy" if temperature == 0 else f"temperature {temperature:g}"


def save(recording: Recording, path: Path) -> None:
    """As compressed JSON."""
    content = {
        "texts": [[text.target, text.sampling, text.suite, _places_out(text)] for text in recording.texts],
        "times": [
            [*key, [[str(one.arm), one.num_nodes, one.draft_s, one.verify_s] for one in passes]]
            for key, passes in recording.times.items()
        ],
    }
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump(content, file)


def load(paths: Sequence[Path]) -> Recording:
    """All that was recorded, in however many pieces."""
    pieces = [_load(path) for path in paths]
    times = {key: passes for piece in pieces for key, passes in piece.times.items()}
    return Recording([text for piece in pieces for text in piece.texts], times)


def _load(path: Path) -> Recording:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return Recording(
        [
            RecordedText(target, sampling, suite, _places_in(places))
            for target, sampling, suite, places in content["texts"]
        ],
        {
            (target, sampling, num_sessions): [TimedPass(_ARM_OF[arm], *numbers) for arm, *numbers in passes]
            for target, sampling, num_sessions, passes in content["times"]
        },
    )


def _places_out(text: RecordedText) -> dict[str, list[list[Any]]]:
    return {
        str(arm): [[own.parents, own.accepted_nodes, own.num_tokens] for own in places]
        for arm, places in text.places.items()
    }


def _places_in(places: dict[str, list[list[Any]]]) -> dict[TreePolicy, list[Place]]:
    return {
        _ARM_OF[arm]: [Place(tuple(parents), tuple(accepted), num_tokens) for parents, accepted, num_tokens in own]
        for arm, own in places.items()
    }
