"""Sessions that took turns come to share passes, on a real engine and its thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from draftpool.engine_thread import EngineThread
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser
from verifier_service.job import Verdict, VerifyJob
from verifier_service.runner import Runner
from verifier_service.target import Target

PASS_S = 0.02
BACK_AFTER_S = 0.004
TREE = DraftTree((7, 8), (-1, 0))


class SlowRunner:
    """Every pass takes so long whatever is in it, as on a device that is far from full."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, layout):
        time.sleep(PASS_S)
        return self._runner.run(layout)


async def rounds(
    thread: EngineThread[VerifyJob], engine, number: int, num_rounds: int, tree: DraftTree = EMPTY_TREE
) -> list[Verdict]:
    session = engine.new_session(Chooser(SamplingParams(temperature=0), 272))
    token_ids, verdicts = [number, 65], []
    await asyncio.sleep(number * PASS_S / 2)  # while the pass of the one before runs
    for _ in range(num_rounds):
        verdict = await thread.submit(VerifyJob(session, token_ids, tree))
        assert isinstance(verdict, Verdict)
        verdicts.append(verdict)
        token_ids = [int(verdict.choice.token_ids[0])]
        await asyncio.sleep(BACK_AFTER_S)
    await asyncio.wrap_future(thread.call(lambda: engine.close_session(session)))
    return verdicts


async def shares(engine, *, gathers: bool, trees: Sequence[DraftTree] = (EMPTY_TREE,) * 2) -> list[int]:
    """Of the later rounds of sessions, each with its own tree: how many of them were in the pass."""
    num_rounds = 24
    hold = engine.hold_s if gathers else lambda _: 0.0
    thread = EngineThread(engine.turn, name="engine", max_waiting=8, hold=hold)
    try:
        told = await asyncio.gather(
            *(rounds(thread, engine, number, num_rounds, tree) for number, tree in enumerate(trees))
        )
    finally:
        thread.close()
    return [verdict.num_pass_sessions for verdicts in told for verdict in verdicts[num_rounds // 2 : -2]]


async def test_two_sessions_share_passes_that_would_take_turns_otherwise(llama: Target, make_engine) -> None:
    apart = await shares(make_engine(llama, wrap_runner=SlowRunner), gathers=False)
    together = await shares(make_engine(llama, wrap_runner=SlowRunner), gathers=True)
    assert sum(num == 1 for num in apart) > 0.8 * len(apart)
    assert sum(num == 2 for num in together) > 0.8 * len(together)


@pytest.mark.parametrize("trees", [(TREE, TREE), (TREE, EMPTY_TREE)], ids=["both draft", "one drafts"])
async def test_sessions_that_draft_neither_wait_nor_are_waited_for(llama: Target, make_engine, trees) -> None:
    """Their drafter works while others have the verifier."""
    told = await shares(make_engine(llama, wrap_runner=SlowRunner), gathers=True, trees=trees)
    assert sum(num == 1 for num in told) > 0.8 * len(told)


async def test_a_session_alone_is_never_held(llama: Target, make_engine) -> None:
    engine = make_engine(llama, wrap_runner=SlowRunner)
    thread = EngineThread(engine.turn, name="engine", max_waiting=8, hold=engine.hold_s)
    verdicts = await rounds(thread, engine, 1, 12)
    thread.close()
    assert max(verdict.queue_us for verdict in verdicts) < 1e6 * PASS_S / 2
