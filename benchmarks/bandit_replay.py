"""Players of recorded rounds: bandits and fixed arms, in a world whose every outcome is known.

Sessions go in lock-step: each chooses a tree, all are drafted and verified together, and all wait for the same round.
Scores are of expected times, so that luck with the clock decides nothing; what a player observes is as noisy as it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median
from typing import Protocol

import numpy as np

from benchmarks.bandit_recording import Place, RecordedText, Recording, TimedPass
from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import LocalSums, RoundOutcome, VerifiedTree
from orchestrator.bandit.passes import VerifyPass
from orchestrator.settings import DEFAULT_ARMS

_PLAIN = Place((), (), 1)


class Player(Protocol):
    """What chooses trees and learns: `TreeBandit` is one."""

    def choose(self) -> TreePolicy: ...

    def release(self) -> None: ...

    def observe(self, outcome: RoundOutcome) -> None: ...


@dataclass(frozen=True)
class Always:
    """A fixed arm."""

    arm: TreePolicy

    def choose(self) -> TreePolicy:
        return self.arm

    def release(self) -> None:
        pass

    def observe(self, outcome: RoundOutcome) -> None:
        pass


class Alternating:
    """Players who take a round each, in turn."""

    def __init__(self, players: Sequence[Player]) -> None:
        self._turns = cycle(players)
        self._playing = next(self._turns)

    def choose(self) -> TreePolicy:
        return self._playing.choose()

    def release(self) -> None:
        self._playing.release()

    def observe(self, outcome: RoundOutcome) -> None:
        self._playing.observe(outcome)
        self._playing = next(self._turns)


class LaggingSums:
    """Sums that are shared, but not at once: what a replica adds is seen by others, and what they add by it, after some
    additions of its own."""

    def __init__(self, shared: LocalSums, every: int) -> None:
        self._shared = shared
        self._every = every
        self._pending: list[tuple[str, dict[str, float], float]] = []
        self._seen = deepcopy(shared)

    def view(self, key: str) -> Mapping[str, float]:
        return self._seen.view(key)

    def add(self, key: str, amounts: Mapping[str, float], *, keep: float = 1.0) -> None:
        self._seen.add(key, amounts, keep=keep)
        self._pending.append((key, dict(amounts), keep))
        if len(self._pending) == self._every:
            for pending_key, pending_amounts, pending_keep in self._pending:
                self._shared.add(pending_key, pending_amounts, keep=pending_keep)
            self._pending, self._seen = [], deepcopy(self._shared)


class Clock:
    """What rounds of so many sessions take: first quartiles by arm, as others disturb the machine now and then; passes
    between them by their nodes, noise as it was."""

    def __init__(self, passes: Sequence[TimedPass], num_sessions: int) -> None:
        by_arm = {arm: [one for one in passes if one.arm == arm] for arm in DEFAULT_ARMS}
        self.num_sessions = num_sessions
        self.draft_s = {arm: _quartile(one.draft_s for one in own) for arm, own in by_arm.items()}
        verified = sorted(
            (median(one.num_nodes for one in own), _quartile(one.verify_s for one in own)) for own in by_arm.values()
        )
        self._nodes, self._verify_s = zip(*verified, strict=True)
        self._noise = [
            (one.draft_s + one.verify_s) / self.expected_s([arm] * num_sessions, one.num_nodes)
            for arm, own in by_arm.items()
            for one in own
        ]

    def expected_s(self, arms: Sequence[TreePolicy], num_nodes: int) -> float:
        """Of a round of sessions with these arms and, together, so many nodes."""
        return self._drafting_s(arms) + float(np.interp(num_nodes, self._nodes, self._verify_s))

    def noisy(self, expected_s: float, rng: random.Random) -> float:
        return expected_s * rng.choice(self._noise)

    def draft_share(self, arms: Sequence[TreePolicy], expected_s: float) -> float:
        return self._drafting_s(arms) / expected_s

    def _drafting_s(self, arms: Sequence[TreePolicy]) -> float:
        return sum(self.draft_s[arm] for arm in arms) / len(arms)


def _quartile(values: Iterable[float]) -> float:
    return float(np.quantile(list(values), 0.25))


@dataclass
class Score:
    """What a player has got.

    Attributes:
        choices: the first session's, round by round.
    """

    num_tokens: int = 0
    seconds: float = 0.0
    choices: list[TreePolicy] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


def play(
    player: Player,
    texts: Iterator[RecordedText],
    clock: Clock,
    rng: random.Random,
    *,
    until: Callable[[Score], bool],
) -> Score:
    """Rounds until a score is reached; all sessions are the player's."""
    score = Score()
    at = [(next(texts), 0) for _ in range(clock.num_sessions)]
    while not until(score):
        arms = [player.choose() for _ in at]
        places = [_place(text, position, arm) for (text, position), arm in zip(at, arms, strict=True)]
        num_nodes = sum(len(place.parents) for place in places)
        expected_s = clock.expected_s(arms, num_nodes)
        round_s, draft_share = clock.noisy(expected_s, rng), clock.draft_share(arms, expected_s)
        together = VerifyPass(clock.num_sessions, clock.num_sessions + num_nodes, round_s * (1 - draft_share))
        for index, (arm, place) in enumerate(zip(arms, places, strict=True)):
            player.release()
            player.observe(_outcome(arm, place, round_s, together))
            text, position = at[index][0], at[index][1] + place.num_tokens
            at[index] = (text, position) if position < text.num_positions else (next(texts), 0)
        score.num_tokens += sum(place.num_tokens for place in places)
        score.seconds += expected_s
        score.choices.append(arms[0])
    return score


def rounds(number: int) -> Callable[[Score], bool]:
    """So many."""
    return lambda score: len(score.choices) >= number


def tokens(number: int) -> Callable[[Score], bool]:
    """So many, of all sessions together."""
    return lambda score: score.num_tokens >= number


def shuffled(texts: Sequence[RecordedText], rng: random.Random) -> Iterator[RecordedText]:
    """The texts in some order, over and over."""
    order = list(texts)
    rng.shuffle(order)
    return cycle(order)


def _place(text: RecordedText, position: int, arm: TreePolicy) -> Place:
    return _PLAIN if arm == NO_DRAFT else text.places[arm][position]


def _outcome(arm: TreePolicy, place: Place, round_s: float, together: VerifyPass) -> RoundOutcome:
    return RoundOutcome(
        VerifiedTree(arm, place.tree, place.accepted_nodes, place.num_tokens),
        round_s=round_s,
        draft_s=round_s - together.seconds,
        verify_s=together.seconds,
        num_sessions=together.num_sessions,
        verify_pass=together,
    )


@dataclass(frozen=True)
class World:
    """One target and one way of sampling."""

    target: str
    sampling: str
    texts: dict[str, list[RecordedText]]
    clocks: dict[int, Clock]

    def fixed(self, texts: Iterable[RecordedText], num_sessions: int) -> dict[TreePolicy, float]:
        """Tokens a second of every arm, played alone on every text once."""
        scores = {}
        every = list(texts)
        for arm in DEFAULT_ARMS:
            tokens = rounds = nodes = 0
            for text in every:
                position = 0
                while position < text.num_positions:
                    place = _place(text, position, arm)
                    position += place.num_tokens
                    tokens, rounds, nodes = tokens + place.num_tokens, rounds + 1, nodes + len(place.parents)
            clock = self.clocks[num_sessions]
            seconds = clock.expected_s([arm], round(nodes / rounds * num_sessions))
            scores[arm] = tokens / rounds / seconds * num_sessions
        return scores


def worlds(recording: Recording, *, is_reporting: bool) -> Iterator[World]:
    """Every target and sampling, with half of its texts: even ones are for tuning, odd ones for reporting."""
    keys = dict.fromkeys((text.target, text.sampling) for text in recording.texts)
    for target, sampling in keys:
        suites: dict[str, list[RecordedText]] = {}
        for text in recording.texts:
            if (text.target, text.sampling) == (target, sampling):
                suites.setdefault(text.suite, []).append(text)
        halves = {suite: texts[int(is_reporting) :: 2] for suite, texts in suites.items()}
        clocks = {
            num_sessions: Clock(passes, num_sessions)
            for (of_target, of_sampling, num_sessions), passes in recording.times.items()
            if (of_target, of_sampling) == (target, sampling)
        }
        yield World(target, sampling, halves, clocks)
