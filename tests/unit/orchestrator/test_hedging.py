"""Drafts that come late, over real gRPC: no round waits for them, and nothing of them is lost that is of use."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from draftpool.errors import ContextLost
from draftpool.tree import EMPTY_TREE, NO_DRAFT, chain
from orchestrator.bandit import TreeBandit
from orchestrator.drafting import DraftSource
from orchestrator.fleet import Fleet
from orchestrator.ledger import Ledger
from orchestrator.patience import DraftPatience
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, chain_tree, fleet_of, until
from tests.unit.orchestrator.generating import CHAIN, GREEDY, UNHURRIED, bandit, generation, run

WAIT_S = 0.3
"""Long enough for a draft on a busy machine, short enough to wait for one that does not come."""
PATIENCE = DraftPatience(least_wait_s=WAIT_S, first_wait_s=2.0)


def source(fleet: Fleet, patience: DraftPatience = PATIENCE) -> DraftSource:
    return DraftSource(fleet, fleet.target("alphabet"), GREEDY, patience=patience)


@asynccontextmanager
async def late_by_one_round(drafter: FakeDrafter) -> AsyncIterator[DraftSource]:
    """A source whose draft after [0, 1], which is [2, 3, 4], was not waited for, and is here now."""
    gate = asyncio.Event()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet)
        assert (await drafts.draft([0], CHAIN)).tree == chain_tree([1, 2, 3])
        drafter.script = [gate]
        assert (await drafts.draft([0, 1], CHAIN)).was_hedged
        gate.set()
        await until(lambda: drafts.is_available)
        yield drafts
        drafts.close()


async def test_a_draft_that_is_not_there_in_time_is_not_waited_for_and_nothing_is_asked_until_it_is() -> None:
    drafter, gate = FakeDrafter(), asyncio.Event()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet)
        await drafts.draft([0], CHAIN)
        drafter.script = [gate]
        hedged = await drafts.draft([0, 1], CHAIN)
        assert (hedged.was_hedged, hedged.tree, hedged.policy) == (True, EMPTY_TREE, CHAIN)
        assert hedged.elapsed_us >= 1e6 * WAIT_S * 0.99
        for _ in range(3):
            assert not drafts.is_available
            assert (await drafts.draft([0, 1, 2], CHAIN)).policy is None
        assert drafter.num_messages == 2
        drafts.close()


async def test_what_is_left_of_a_late_tree_is_the_next_draft_and_costs_nothing() -> None:
    drafter = FakeDrafter()
    async with late_by_one_round(drafter) as drafts:
        late = await drafts.draft([0, 1, 2], chain(2))
        assert (late.is_late, late.tree, late.policy) == (True, chain_tree([3, 4]), CHAIN)
        assert (late.draft_us, late.elapsed_us) == (0, 0)
        fresh = await drafts.draft([0, 1, 2, 3], CHAIN)
        assert (fresh.is_late, fresh.tree) == (False, chain_tree([4, 5, 6]))
        assert drafter.openings == [[0]]


async def test_a_late_tree_waits_while_drafting_does_not_pay() -> None:
    async with late_by_one_round(FakeDrafter()) as drafts:
        assert (await drafts.draft([0, 1, 2], NO_DRAFT)).tree == EMPTY_TREE
        assert (await drafts.draft([0, 1, 2, 3], CHAIN)).tree == chain_tree([4])


@pytest.mark.parametrize("committed", [[2, 3, 4], [9], [2, 9]])
async def test_of_a_late_tree_that_the_tokens_have_left_nothing_is_used(committed: list[int]) -> None:
    async with late_by_one_round(FakeDrafter()) as drafts:
        draft = await drafts.draft([0, 1, *committed], chain(1))
        assert (draft.is_late, draft.tree) == (False, chain_tree([committed[-1] + 1]))


async def test_a_drafter_that_fails_late_is_replaced_in_the_next_round() -> None:
    drafters, gate = [FakeDrafter(), FakeDrafter()], asyncio.Event()
    async with fleet_of(FakeVerifier(), *drafters, refresh_s=60) as fleet:
        drafts = source(fleet)
        await drafts.draft([0], CHAIN)
        first, second = sorted(drafters, key=lambda drafter: drafter.num_open, reverse=True)
        first.script = [gate]
        assert (await drafts.draft([0, 1], CHAIN)).was_hedged
        await first.stop()
        await until(lambda: drafts.is_available)
        draft = await drafts.draft([0, 1, 2], CHAIN)
        assert (draft.tree, draft.num_lost, draft.is_late) == (chain_tree([3, 4, 5]), 1, False)
        assert second.openings == [[0, 1, 2]]
        drafts.close()


async def test_a_stopped_drafter_costs_a_request_one_wait_and_is_out() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet, DraftPatience(least_wait_s=WAIT_S, first_wait_s=2.0, stall_s=0.4))
        await drafts.draft([0], CHAIN)
        drafter.awake.clear()
        waits = [await drafts.draft([0, 1], CHAIN)]
        await until(lambda: drafts.is_available)
        waits += [await drafts.draft([0, 1, 2], CHAIN) for _ in range(5)]
        assert [draft.was_hedged for draft in waits] == [True] + [False] * 5
        assert not fleet.drafters[0].is_up
        assert not drafts.is_available
        drafts.close()


async def test_a_drafter_that_lives_and_never_replies_is_given_up_in_the_end() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet, DraftPatience(least_wait_s=0.05, first_wait_s=2.0, stall_s=0.2, timeout_s=0.7))
        await drafts.draft([0], CHAIN)
        drafter.script = [Fault.HANG]
        start_s = time.monotonic()
        assert (await drafts.draft([0, 1], CHAIN)).was_hedged
        await until(lambda: drafts.is_available)
        assert time.monotonic() >= start_s + 0.69
        await drafts.draft([0, 1, 2], CHAIN)
        assert not fleet.drafters[0].is_up
        drafts.close()


async def test_a_draft_is_worth_as_long_a_wait_as_verifying_without_one_takes() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        fleet.target("alphabet").plain_round.observe(0.4, num_nodes=0)
        drafts = source(fleet, DraftPatience(least_wait_s=0.0, first_wait_s=2.0))
        await drafts.draft([0], CHAIN)
        drafter.script = [Fault.HANG]
        assert (await drafts.draft([0, 1], CHAIN)).elapsed_us >= 0.39e6
        drafts.close()


async def test_after_two_late_drafts_the_drafter_is_not_waited_for_until_one_would_have_been_in_time() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet)
        await drafts.draft([0], CHAIN)
        waits = []
        for position in (1, 11, 21, 31):  # no late tree is of use
            gate = asyncio.Event()
            drafter.script = [gate]
            waits.append(await drafts.draft([0, *range(position)], CHAIN))
            assert waits[-1].was_hedged
            if len(waits) < 4:  # the fourth comes at once
                await asyncio.sleep(WAIT_S * 1.1)
            gate.set()
            await until(lambda: drafts.is_available)
        assert [draft.elapsed_us >= 0.99e6 * WAIT_S for draft in waits] == [True, True, False, False]
        assert (await drafts.draft([0, *range(41)], CHAIN)).tree.num_nodes == 3
        drafts.close()


async def test_a_requests_first_round_takes_in_the_context_on_both_sides_at_once() -> None:
    verifier, drafter, both = FakeVerifier(), FakeDrafter(), asyncio.Event()
    verifier.script, drafter.script = [both], [both]
    async with fleet_of(verifier, drafter, refresh_s=60) as fleet:
        rounds = generation(fleet, draft_patience=DraftPatience(least_wait_s=2.0)).rounds()
        first = asyncio.ensure_future(anext(rounds))
        await until(lambda: verifier.num_messages == drafter.num_messages == 1)
        both.set()
        assert (await first).num_committed == 1
        await rounds.aclose()


async def test_late_drafts_change_no_token_and_waiting_is_charged_to_their_shape() -> None:
    drafter, verifier, taught = FakeDrafter(), FakeVerifier(), bandit(CHAIN)
    async with fleet_of(verifier, drafter, refresh_s=60) as fleet:
        rounds = []
        gate = asyncio.Event()
        started = generation(fleet, taught=taught, draft_patience=PATIENCE, max_new_tokens=13)
        async for round_ in started.rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                drafter.script = [gate]
            if len(rounds) == 2:
                gate.set()
                await asyncio.sleep(0.3)
        assert "".join(token.text for round_ in rounds for token in round_.tokens) == "bcdefghijklmn"
        assert [round_.num_committed for round_ in rounds] == [4, 1, 3, 4, 1]
        assert [(round_.was_hedged, round_.draft_was_late) for round_ in rounds[1:4]] == [
            (True, False),
            (False, True),
            (False, False),
        ]
        ledger = Ledger()
        for round_ in rounds:
            ledger.add(round_)
        assert (ledger.usage.num_hedged_rounds, ledger.usage.num_late_drafts) == (1, 1)
        lessons = [lesson.verified for lesson in taught.lessons[:3]]
        assert [(lesson.policy, lesson.num_tokens, lesson.is_rest) for lesson in lessons] == [
            (NO_DRAFT, 1, False),
            (CHAIN, 3, True),
            (CHAIN, 4, False),
        ]
        assert taught.lessons[0].draft_s == 0
        [(policy, wait_s)] = taught.charges
        assert policy == CHAIN
        assert wait_s >= 0.99 * WAIT_S
        assert taught.lessons[1].draft_s == 0


async def test_a_session_lost_by_the_drafter_while_nobody_waits_is_opened_again() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts = source(fleet)
        await drafts.draft([0], CHAIN)
        drafter.script = [ContextLost("evicted")]
        drafter.awake.clear()
        assert (await drafts.draft([0, 1], CHAIN)).was_hedged
        drafter.awake.set()
        await until(lambda: drafts.is_available)
        draft = await drafts.draft([0, 1, 2], CHAIN)
        assert (draft.tree, draft.num_lost) == (chain_tree([3, 4, 5]), 1)
        assert drafter.openings == [[0], [0, 1, 2]]
        drafts.close()


async def test_a_list_that_grows_while_the_drafter_is_taught_the_vocabulary_is_sent_as_it_was_when_asked() -> None:
    drafter, token_ids = FakeDrafter(), [0, 1]
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafts, replica = source(fleet, DraftPatience(least_wait_s=0.0)), fleet.drafters[0]
        replica.shared_vocabulary.clear()
        async with replica.registering:
            assert (await drafts.draft(token_ids, CHAIN)).was_hedged
            token_ids.append(2)
        await until(lambda: drafts.is_available)
        assert drafter.openings == [[0, 1]]
        assert (await drafts.draft(token_ids, CHAIN)).tree == chain_tree([3, 4])
        drafts.close()


async def test_closing_a_source_whose_draft_has_failed_meanwhile_leaves_no_exception_unseen() -> None:
    drafter = FakeDrafter()

    async def fail_late(fleet: Fleet) -> None:
        drafts, drafter.script = source(fleet), [None, asyncio.Event()]
        await drafts.draft([0], CHAIN)
        assert (await drafts.draft([0, 1], CHAIN)).was_hedged
        await drafter.stop()
        await until(lambda: drafts.is_available)
        drafts.close()

    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:  # which asserts it
        await fail_late(fleet)
        gc.collect()


async def test_closing_a_source_with_a_draft_under_way_ends_stream_and_task() -> None:
    for fate in (Fault.HANG, Fault.FREEZE, None):
        drafter = FakeDrafter(always=fate)
        async with fleet_of(FakeVerifier(), drafter) as fleet:  # which asserts it
            drafts = source(fleet, DraftPatience(least_wait_s=0.0))
            await drafts.draft([0], CHAIN)
            drafts.close()


@pytest.mark.parametrize("least_wait_s", [0.0, 0.001])
async def test_a_text_is_the_same_however_short_the_wait(least_wait_s: float) -> None:
    async with fleet_of(FakeVerifier(), FakeDrafter()) as fleet:
        patience = DraftPatience(least_wait_s=least_wait_s)
        text, _ = await run(generation(fleet, max_new_tokens=24, draft_patience=patience))
        assert text == "bcdefghijklmnopqrstuvwxy"


class Alternating(TreeBandit):
    """Asks for a draft every other round."""

    num_chosen = 0

    def choose(self):
        self.num_chosen += 1
        return CHAIN if self.num_chosen % 2 else NO_DRAFT


async def test_plain_rounds_tell_what_verifying_without_a_draft_takes() -> None:
    async with fleet_of(FakeVerifier(), FakeDrafter()) as fleet:
        taught = Alternating(())
        await run(generation(fleet, shape=None, taught=taught, draft_patience=UNHURRIED))
        plain_round_s = fleet.target("alphabet").plain_round.plain_round_s
        assert plain_round_s is not None
        assert 0 < plain_round_s < 1
