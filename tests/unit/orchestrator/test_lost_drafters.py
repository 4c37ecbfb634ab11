"""Drafters that fail, go away or draw nonsense, over real gRPC: speed is all that they can cost."""

import asyncio
import time
from dataclasses import replace

import grpc
import pytest

from draftpool.errors import BadParameter, ContextLost, Draining, InternalError, NoCapacity, Unavailable, Unsupported
from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.v1 import drafter_pb2, tree_pb2
from orchestrator.bandit import TreeBandit
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, Step, fleet_of
from tests.unit.orchestrator.generating import UNHURRIED, bandit, generation, run, text_of

UNDISTURBED = "bcdefghijklm"


def draw(*token_ids: int, parents: tuple[int, ...] = (-1, 0, 1, 2)) -> Step:
    tree = tree_pb2.DraftTree(token_ids=token_ids, parents=parents[: len(token_ids)])
    return lambda _: drafter_pb2.DraftReply(tree=tree)


class GarblingDrafter(FakeDrafter):
    """Its drafts are bytes that no message has."""

    def register(self, server: grpc.aio.Server) -> None:
        super().register(server)
        garble = grpc.stream_stream_rpc_method_handler(
            self.Draft, drafter_pb2.DraftRequest.FromString, lambda _: b"\xff"
        )
        server.add_registered_method_handlers("draftpool.v1.Drafter", {"Draft": garble})


NO_USE_TO_ANYBODY: dict[str, Step] = {
    "unavailable": Unavailable("gone"),
    "draining": Draining("bye"),
    "ends the stream": Fault.END_STREAM,
    "hangs": Fault.HANG,
    "draws more nodes than asked": draw(1, 2, 3, parents=(-1, -1, -1)),
    "draws deeper than asked": draw(1, 2, 3),
    "draws tokens that do not exist": draw(27),
    "draws a child before its parent": draw(1, 2, parents=(1, -1)),
    "draws twins": draw(1, 1, parents=(-1, -1)),
    "draws half a tree": draw(1, 2, parents=(-1,)),
}
NO_USE_TO_THIS_REQUEST: dict[str, Step] = {
    "full": NoCapacity("full", retry_after_s=1),
    "refuses": BadParameter("no"),
    "cannot": Unsupported("no"),
    "has a bug": InternalError("oops"),
}


@pytest.mark.parametrize("case", [*NO_USE_TO_ANYBODY, *NO_USE_TO_THIS_REQUEST])
async def test_a_drafter_of_no_use_leaves_plain_decoding_and_is_put_out_only_if_it_is_of_no_use_to_others(
    case: str,
) -> None:
    drafter = FakeDrafter(always=(NO_USE_TO_ANYBODY | NO_USE_TO_THIS_REQUEST)[case])
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        era = fleet.drafters[0].era
        text, rounds = await run(
            generation(fleet, shape=chain(2), draft_patience=replace(UNHURRIED, stall_s=0.2, timeout_s=0.2))
        )
        assert text == UNDISTURBED
        assert [round_.tree.num_nodes for round_ in rounds] == [0] * 12
        assert (fleet.drafters[0].era is era) == (case in NO_USE_TO_THIS_REQUEST)


async def test_replies_that_cannot_be_read_leave_plain_decoding_and_put_the_drafter_out() -> None:
    async with fleet_of(FakeVerifier(), GarblingDrafter(), refresh_s=60) as fleet:
        text, rounds = await run(generation(fleet))
        assert text == UNDISTURBED
        assert [round_.tree.num_nodes for round_ in rounds] == [0] * 12
        assert not fleet.drafters[0].is_up


async def test_wrong_drafts_change_no_token() -> None:
    async with fleet_of(FakeVerifier(), FakeDrafter(always=draw(1, 5, 25))) as fleet:
        text, rounds = await run(generation(fleet, max_new_tokens=24, shape=chain(3)))
        assert text == "bcdefghijklmnopqrstuvwxy"
        assert sum(round_.tree.num_nodes for round_ in rounds) > 12


async def test_a_drafter_that_forgot_its_vocabularies_is_taught_again_and_drafts_on() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        drafter.vocabularies.clear()
        text, rounds = await run(generation(fleet))
        assert text == UNDISTURBED
        assert all(round_.tree.num_nodes for round_ in rounds)
        assert drafter.num_lessons == 2


async def test_a_drafter_that_restarted_gets_the_whole_context() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter) as fleet:
        await run(generation(fleet, max_new_tokens=4))
        await drafter.stop()
        drafter.vocabularies.clear()
        assert (await run(generation(fleet)))[0] == UNDISTURBED
        await drafter.start()
        num_nodes = 0
        while not num_nodes:
            text, rounds = await run(generation(fleet))
            assert text == UNDISTURBED
            num_nodes = sum(round_.tree.num_nodes for round_ in rounds)


async def test_the_second_drafter_takes_over_within_the_round_in_which_the_first_is_lost() -> None:
    drafters = [FakeDrafter(), FakeDrafter()]
    async with fleet_of(FakeVerifier(), *drafters, refresh_s=60) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                first, second = sorted(drafters, key=lambda drafter: drafter.num_open, reverse=True)
                first.always = Unavailable("gone")
        assert text_of(rounds) == UNDISTURBED
        assert all(round_.tree.num_nodes for round_ in rounds)
        assert (first.openings, second.openings) == ([[0]], [[0, 1, 2, 3, 4]])


@pytest.mark.parametrize("case", [*NO_USE_TO_ANYBODY, *NO_USE_TO_THIS_REQUEST])
async def test_whatever_is_wrong_with_one_drafter_another_draws_within_the_same_round(case: str) -> None:
    useless, useful = FakeDrafter(always=(NO_USE_TO_ANYBODY | NO_USE_TO_THIS_REQUEST)[case]), FakeDrafter()
    async with fleet_of(FakeVerifier(), useless, useful, refresh_s=60) as fleet:
        num_lost = 0
        while not num_lost:  # either of the two may be asked
            text, rounds = await run(
                generation(fleet, shape=chain(2), draft_patience=replace(UNHURRIED, timeout_s=0.1))
            )
            assert text == UNDISTURBED
            assert all(round_.tree.num_nodes for round_ in rounds[:-1])
            num_lost = rounds[0].num_drafters_lost
            assert not any(round_.num_drafters_lost for round_ in rounds[1:])


async def test_a_full_drafter_is_asked_again_when_it_said_it_would_have_room() -> None:
    drafter = FakeDrafter()
    drafter.script = [NoCapacity("full", retry_after_s=0.3)]
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        rounds = generation(fleet).rounds()
        first = await anext(rounds)
        told_s = time.monotonic()
        assert (first.tree.num_nodes, first.num_drafters_lost) == (0, 1)
        num_before = drafter.num_messages
        second = await anext(rounds)
        if time.monotonic() < told_s + 0.25:
            assert (second.tree.num_nodes, drafter.num_messages) == (0, num_before)
        await asyncio.sleep(0.35)
        assert (await anext(rounds)).tree.num_nodes
        await rounds.aclose()


async def test_a_drafter_that_forgets_the_context_gets_it_again_within_the_round() -> None:
    drafter = FakeDrafter()
    drafter.script = [None, ContextLost("evicted")]
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        text, rounds = await run(generation(fleet))
        assert text == UNDISTURBED
        assert all(round_.tree.num_nodes for round_ in rounds)
        assert drafter.openings == [[0], [0, 1, 2, 3, 4]]


async def test_a_drafter_that_always_forgets_the_context_is_not_asked_for_ever() -> None:
    drafter = FakeDrafter(always=ContextLost("evicted"))
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        text, rounds = await run(generation(fleet))
        assert text == UNDISTURBED
        assert drafter.num_messages == rounds[0].num_drafters_lost == 3


async def test_a_drafter_that_was_not_asked_for_some_rounds_is_sent_what_was_committed_meanwhile() -> None:
    class Plain(TreeBandit):
        def choose(self) -> TreeShape:
            self.num_chosen = getattr(self, "num_chosen", 0) + 1
            return NO_DRAFT if self.num_chosen in (2, 3) else chain(2)

    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter) as fleet:
        _, rounds = await run(generation(fleet, shape=None, taught=Plain(())))
        assert [round_.num_committed for round_ in rounds] == [3, 1, 1, 3, 3, 1]
        assert drafter.openings == [[0]]


@pytest.mark.parametrize(
    ("max_tree_nodes", "shape", "asked"),
    [(2, chain(3), (1, 1)), (4, TreeShape((3, 2)), (3,)), (2, TreeShape((3, 2)), ()), (9, TreeShape((3, 2)), (3, 2))],
)
async def test_a_shape_too_large_for_the_drafter_is_cut_to_what_it_takes(
    max_tree_nodes: int, shape: TreeShape, asked: tuple[int, ...]
) -> None:
    drafter = FakeDrafter(max_tree_nodes=max_tree_nodes)
    async with fleet_of(FakeVerifier(), drafter) as fleet:
        text, rounds = await run(generation(fleet, shape=shape))
        assert text == UNDISTURBED
        assert drafter.shapes[0] == asked
        assert rounds[0].tree.num_nodes == len(asked)


async def test_a_failed_draft_teaches_nothing_about_its_shape() -> None:
    taught = bandit(chain(3))
    async with fleet_of(FakeVerifier(), FakeDrafter(always=InternalError("oops"))) as fleet:
        await run(generation(fleet, taught=taught))
        assert {outcome.verified.policy for outcome in taught.lessons} == {NO_DRAFT}


async def test_a_drafter_that_has_nothing_to_say_does_not_keep_the_bandit_at_one_shape() -> None:
    def draw_nothing(_: object) -> drafter_pb2.DraftReply:
        time.sleep(0.003)  # several times a round of these fakes: which of the shapes costs more is no matter of luck
        return drafter_pb2.DraftReply(tree=tree_pb2.DraftTree())

    taught = bandit(chain(2), chain(3))
    async with fleet_of(FakeVerifier(), FakeDrafter(always=draw_nothing)) as fleet:
        text, _ = await run(generation(fleet, shape=None, max_new_tokens=24, taught=taught))
        assert text == "bcdefghijklmnopqrstuvwxy"
        played = [outcome.verified.policy for outcome in taught.lessons]
        assert set(played) > {NO_DRAFT}
        assert played[-12:].count(NO_DRAFT) > 6
