"""A serving system in simulated time: sessions share a verifier's passes, and their rounds the orchestrator's core."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from draftpool.tree import ROOT, DraftTree, TreeShape
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import RoundOutcome, VerifiedTree
from orchestrator.bandit.passes import VerifyPass
from orchestrator.bandit.tree_bandit import TreeBandit


@dataclass(frozen=True)
class Costs:
    """Seconds.

    Attributes:
        pass_s, row_s: of the verifier, on its own core.
        plain_s, drafted_s: of the orchestrator a round, on its core.
        level_s, node_s: of the drafter, on the orchestrator's core unless it has its own; levels are drafted together.
        likely: the chance that a drafted token is right.
    """

    pass_s: float = 0.0069
    row_s: float = 0.00033
    plain_s: float = 0.0014
    drafted_s: float = 0.0024
    level_s: float = 0.00025
    node_s: float = 0.00004
    has_own_drafter: bool = False
    likely: float = 0.62


@dataclass
class InFlight:
    session: int
    arm: TreeShape
    begun_s: float
    draft_s: float = 0.0
    asked_s: float = 0.0


class Core:
    """Does one thing after another."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._is_busy = False

    def do(self, seconds: float, then: Callable[[], None]) -> None:
        self._waiting.append((seconds, then))
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_busy and self._waiting:
            self._is_busy = True
            seconds, then = self._waiting.popleft()
            self._serving.after(seconds, partial(self._end, then))

    def _end(self, then: Callable[[], None]) -> None:
        self._is_busy = False
        then()
        self._go_on()


@dataclass
class Serving:
    """So many sessions that never end, under one bandit."""

    bandit: TreeBandit
    num_sessions: int
    costs: Costs
    seed: int = 0
    now_s: float = 0.0
    num_tokens: int = 0
    num_rounds: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _num_events: int = 0
    _drafting: list[InFlight] = field(default_factory=list)
    _verifying: list[InFlight] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._orchestrator = Core(self)
        self._drafter = Core(self) if self.costs.has_own_drafter else self._orchestrator
        self._is_drafting = self._is_verifying = False

    def tokens_per_s(self, num_rounds: int) -> float:
        """Of the next so many rounds of each session; those under way then are cut off."""
        begun_s, begun = self.now_s, self.num_tokens
        if not self._events:
            for session in range(self.num_sessions):
                self._begin(session)
        end = self.num_rounds + num_rounds * self.num_sessions
        while self.num_rounds < end:
            self.now_s, _, then = heapq.heappop(self._events)
            then()
        return (self.num_tokens - begun) / (self.now_s - begun_s)

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        self._num_events += 1
        at_s = self.now_s + seconds * self._rng.uniform(0.85, 1.15)
        heapq.heappush(self._events, (at_s, self._num_events, then))

    def _begin(self, session: int) -> None:
        arm = self.bandit.choose()
        assert isinstance(arm, TreeShape)
        one = InFlight(session, arm, self.now_s)
        if arm.depth == 0:
            self._verify(one)
        else:
            self._orchestrator.do(self.costs.drafted_s - self.costs.plain_s, partial(self._draft, one))

    def _draft(self, one: InFlight) -> None:
        self._drafting.append(one)
        if not self._is_drafting:
            self._draft_batch()

    def _draft_batch(self) -> None:
        batch, self._drafting = self._drafting, []
        self._is_drafting = bool(batch)
        if batch:
            nodes_s = self.costs.node_s * sum(one.arm.num_nodes for one in batch)
            levels_s = self.costs.level_s * max(one.arm.depth for one in batch)
            self._drafter.do(nodes_s + levels_s, partial(self._drafted, batch))

    def _drafted(self, batch: list[InFlight]) -> None:
        for one in batch:
            one.draft_s = self.now_s - one.begun_s
            self._verify(one)
        self._draft_batch()

    def _verify(self, one: InFlight) -> None:
        one.asked_s = self.now_s
        self._verifying.append(one)
        if not self._is_verifying:
            self._verify_batch()

    def _verify_batch(self) -> None:
        batch, self._verifying = self._verifying, []
        self._is_verifying = bool(batch)
        if batch:
            num_rows = sum(1 + one.arm.num_nodes for one in batch)
            begun_s, seconds = self.now_s, self.costs.pass_s + self.costs.row_s * num_rows
            self.after(seconds, partial(self._verified, batch, num_rows, begun_s))

    def _verified(self, batch: list[InFlight], num_rows: int, begun_s: float) -> None:
        together = VerifyPass(len(batch), num_rows, self.now_s - begun_s)
        for one in batch:
            self._orchestrator.do(self.costs.plain_s, partial(self._end, one, together))
        self._verify_batch()

    def _end(self, one: InFlight, together: VerifyPass) -> None:
        tree = drawn(one.arm)
        accepted = self._accepted(tree)
        self.num_tokens += len(accepted) + 1
        self.num_rounds += 1
        self.bandit.release()
        self.bandit.observe(
            RoundOutcome(
                VerifiedTree(one.arm, tree, accepted, len(accepted) + 1),
                round_s=self.now_s - one.begun_s,
                draft_s=one.draft_s,
                verify_s=self.now_s - one.asked_s,
                num_sessions=self.num_sessions,
                verify_pass=together,
            )
        )
        self._begin(one.session)

    def _accepted(self, tree: DraftTree) -> list[int]:
        accepted: list[int] = []
        at, draw, num_before = ROOT, self._rng.random(), 0
        for node, parent in enumerate(tree.parents):
            if parent != at:
                continue
            num_before += 1
            if draw < 1 - (1 - self.costs.likely) ** num_before:
                accepted.append(node)
                at, draw, num_before = node, self._rng.random(), 0
        return accepted


def drawn(shape: TreePolicy) -> DraftTree:
    """The tree of a fixed shape, all its tokens different."""
    assert isinstance(shape, TreeShape)
    parents: list[int] = []
    level = [ROOT]
    for num_children in shape.branching:
        begin = len(parents)
        parents += [node for node in level for _ in range(num_children)]
        level = list(range(begin, len(parents)))
    return DraftTree(tuple(range(len(parents))), tuple(parents))
