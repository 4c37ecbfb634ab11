"""What a replay shows: a table for each claim."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain as joined
from statistics import mean, median

from rich.table import Table

from benchmarks.bandit_recording import DRAFTED_ARMS, RecordedText
from benchmarks.bandit_replay import Alternating, Always, LaggingSums, Player, World, play, rounds, shuffled, tokens
from benchmarks.learning import rounds_to_learn
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import LocalSums, Method, Situation, Sums, TreeBandit, VerifiedTree
from orchestrator.bandit.nesting import is_nested, nested_lessons
from orchestrator.settings import DEFAULT_ARMS

_SITUATION = Situation("replayed", "replayed", "replayed")
_LAG = 20
"""Additions between two exchanges of a replica: ten rounds."""

MakePlayer = Callable[[], Player]


def bandit(method: Method, sums: Sums | None = None) -> TreeBandit:
    return TreeBandit(DEFAULT_ARMS, situation=_SITUATION, sums=sums, method=method)


def fixed_table(worlds: Sequence[World], method: Method, num_sessions: int, num_rounds: int, num_seeds: int) -> Table:
    """Every fixed arm's speed and the bandit's, as shares of the best arm's in hindsight."""
    table = Table(title=f"Share of the best fixed arm, sessions: {num_sessions}, rounds: {num_rounds}, from nothing")
    for column in ("target", "sampling", "prompts", "best arm", *map(short, DEFAULT_ARMS), "bandit"):
        table.add_column(column, justify="right")
    for world in worlds:
        for suite, texts in world.texts.items():
            fixed = world.fixed(texts, num_sessions)
            best = max(fixed, key=lambda arm: fixed[arm])
            shares = [
                _share(world, texts, partial(bandit, method), num_sessions, num_rounds, seed)
                for seed in range(num_seeds)
            ]
            table.add_row(
                *(world.target, world.sampling, suite, short(best)),
                *(f"{fixed[arm] / fixed[best]:.2f}" for arm in DEFAULT_ARMS),
                f"{mean(shares):.3f}",
            )
        table.add_section()
    return table


def short(arm: TreePolicy) -> str:
    return str(arm).replace(" of depth ", "x").replace("chain of ", "chain ")


def _share(
    world: World, texts: Sequence[RecordedText], make: MakePlayer, num_sessions: int, num_rounds: int, seed: int
) -> float:
    """A player's speed as a share of the best fixed arm's over the same rounds."""
    clock, scores = world.clocks[num_sessions], []
    for player in (make(), *map(Always, DEFAULT_ARMS)):
        rng = random.Random(seed)
        scores.append(play(player, shuffled(texts, rng), clock, rng, until=rounds(num_rounds)).tokens_per_s)
    return scores[0] / max(scores[1:])


def shifting_table(worlds: Sequence[World], method: Method, num_tokens: int, num_seeds: int) -> Table:
    """A stream whose prompts and load change: every fixed arm's seconds over the bandit's, for the same tokens."""
    table = Table(title=f"A stream that shifts, {num_tokens} tokens a part: how much faster the bandit is")
    for column in ("target", "sampling", *map(short, DEFAULT_ARMS), "best arm of each part"):
        table.add_column(column, justify="right")
    totals = [0.0] * (len(DEFAULT_ARMS) + 2)
    for world in worlds:
        parts = [(suite, load) for load in (1, 16, 4, 1, 16, 4) for suite in world.texts]
        players: list[MakePlayer] = [partial(bandit, method), *(partial(Always, arm) for arm in DEFAULT_ARMS)]
        seconds = [
            mean(_streamed(world, parts, make(), num_tokens, seed) for seed in range(num_seeds)) for make in players
        ]
        seconds.append(sum(num_tokens / max(world.fixed(world.texts[suite], load).values()) for suite, load in parts))
        totals = [total + own for total, own in zip(totals, seconds, strict=True)]
        table.add_row(world.target, world.sampling, *(f"{own / seconds[0]:.3f}" for own in seconds[1:]))
    table.add_row("together", "", *(f"{own / totals[0]:.3f}" for own in totals[1:]))
    return table


def _streamed(world: World, parts: Sequence[tuple[str, int]], player: Player, num_tokens: int, seed: int) -> float:
    """Seconds."""
    rng = random.Random(seed)
    return sum(
        play(
            player, shuffled(world.texts[suite], rng), world.clocks[num_sessions], rng, until=tokens(num_tokens)
        ).seconds
        for suite, num_sessions in parts
    )


def learning_table(worlds: Sequence[World], players: dict[str, MakePlayer], num_rounds: int, num_seeds: int) -> Table:
    """Rounds until a player stays within five per cent of the best arm."""
    table = Table(title=f"Rounds until within 5 % of the best arm: medians of {num_seeds}, at most {num_rounds}")
    for column in ("target", "sampling", "prompts", *players):
        table.add_column(column, justify="right")
    for world in worlds:
        for suite, texts in world.texts.items():
            found = {
                name: [_rounds_to_learn([make()], world, texts, num_rounds, seed) for seed in range(num_seeds)]
                for name, make in players.items()
            }
            table.add_row(world.target, world.sampling, suite, *(f"{median(own):.0f}" for own in found.values()))
        table.add_section()
    return table


def replicas_table(worlds: Sequence[World], method: Method, num_rounds: int, num_seeds: int) -> Table:
    """Rounds of each replica until within five per cent: alone, two that share with a lag, a third that comes later."""
    table = Table(title=f"Rounds of each replica until within 5 % of the best arm: means of {num_seeds}")
    for column in ("target", "sampling", "prompts", "alone", "two sharing", "a third, later"):
        table.add_column(column, justify="right")
    for world in worlds:
        for suite, texts in world.texts.items():
            alone, two, third = [], [], []
            for seed in range(num_seeds):
                alone.append(_rounds_to_learn([bandit(method)], world, texts, num_rounds, seed))
                sums = LocalSums()
                pair = [bandit(method, LaggingSums(sums, _LAG)) for _ in range(2)]
                two.append(_rounds_to_learn(pair, world, texts, num_rounds, seed) / 2)
                late = bandit(method, LaggingSums(sums, _LAG))
                third.append(_rounds_to_learn([late], world, texts, num_rounds, seed))
            table.add_row(world.target, world.sampling, suite, *(f"{mean(own):.1f}" for own in (alone, two, third)))
        table.add_section()
    return table


def _rounds_to_learn(
    players: Sequence[Player], world: World, texts: Sequence[RecordedText], num_rounds: int, seed: int
) -> int:
    """One session after another, players in turn; of all players together."""
    fixed, rng = world.fixed(texts, 1), random.Random(seed)
    score = play(Alternating(players), shuffled(texts, rng), world.clocks[1], rng, until=rounds(num_rounds))
    relative = [max(fixed.values()) / fixed[arm] for arm in score.choices]  # seconds a token, the best one's being 1
    return rounds_to_learn(relative)


def nesting_table(worlds: Sequence[World]) -> Table:
    """What is read off a large tree beside the small tree as the drafter really draws it."""
    table = Table(title="Read off a larger tree, and drawn for itself: tokens a round (rounds that differ)")
    for column in ("target", "sampling", "arm", "read off", "tokens drawn", "tokens read off", "differ"):
        table.add_column(column, justify="right")
    for world in worlds:
        texts = list(joined.from_iterable(world.texts.values()))
        for outer in (DEFAULT_ARMS[-1], DEFAULT_ARMS[-2]):
            for inner in DRAFTED_ARMS:
                if inner != outer and is_nested(inner, outer):
                    pairs = list(_pairs(texts, inner, outer))
                    drawn, read_off = (mean(pair[side] for pair in pairs) for side in range(2))
                    differ = mean(one != other for one, other in pairs)
                    cells = (str(inner), str(outer), f"{drawn:.3f}", f"{read_off:.3f}", f"{differ:.1%}")
                    table.add_row(world.target, world.sampling, *cells)
        table.add_section()
    return table


def _pairs(texts: Iterable[RecordedText], inner: TreePolicy, outer: TreePolicy) -> Iterable[tuple[int, int]]:
    for text in texts:
        for small, large in zip(text.places[inner], text.places[outer], strict=True):
            verified = VerifiedTree(outer, large.tree, large.accepted_nodes, large.num_tokens)
            (lesson,) = nested_lessons(verified, [inner])
            yield small.num_tokens, lesson.num_tokens


def visiting_table(worlds: Sequence[World]) -> Table:
    """An arm's tokens a round where it plays itself, and where others play: they stop at other places of the text."""
    visitors = (DEFAULT_ARMS[0], DEFAULT_ARMS[-2])
    table = Table(title="Tokens a round of an arm, at the places where it stops itself and where others stop")
    for column in ("target", "sampling", "arm", "itself", *map(str, visitors)):
        table.add_column(column, justify="right")
    for world in worlds:
        texts = list(joined.from_iterable(world.texts.values()))
        for arm in DRAFTED_ARMS:
            means = (mean(_visited(texts, arm, visitor)) for visitor in (arm, *visitors))
            table.add_row(world.target, world.sampling, str(arm), *(f"{tokens:.3f}" for tokens in means))
        table.add_section()
    return table


def _visited(texts: Iterable[RecordedText], arm: TreePolicy, visitor: TreePolicy) -> Iterable[int]:
    for text in texts:
        position = 0
        while position < text.num_positions:
            yield text.places[arm][position].num_tokens
            position += text.places[visitor][position].num_tokens if visitor.depth else 1
