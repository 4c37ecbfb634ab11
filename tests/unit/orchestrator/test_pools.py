"""Pools whose addresses change, and which of their replicas a request meets, over real gRPC."""

import asyncio

import grpc
import pytest

from draftpool.errors import Unavailable
from draftpool.v1 import load_pb2, verifier_pb2
from orchestrator.discovery import sources_of
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from orchestrator.prefixes import BLOCK_TOKENS
from orchestrator.replicas import choose_replica
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Step, fleet_of, until
from tests.unit.orchestrator.generating import generation, run, text_of
from tests.unit.orchestrator.told_addresses import ToldAddresses

UNDISTURBED = "bcdefghijklm"
PROMPT = [token % 26 for token in range(2 * BLOCK_TOKENS)]


def fleet_told(verifiers: ToldAddresses, drafters: ToldAddresses) -> Fleet:
    """Nothing is visited by the clock: all that happens is told."""
    return Fleet(verifiers=[verifiers], drafters=[drafters], refresh_s=60, ejection=EjectionPolicy())


async def test_a_new_address_is_visited_at_once() -> None:
    first, second = FakeVerifier(), FakeVerifier("beta")
    async with fleet_of(first, second):
        told = ToldAddresses(first)
        fleet = fleet_told(told, ToldAddresses())
        async with fleet.watched():
            assert set(fleet.targets) == {"alphabet"}
            told.tell(first, second)
            await until(lambda: "beta" in fleet.targets)
            assert (await run(generation(fleet, target=fleet.target("beta"))))[0] == UNDISTURBED


async def test_a_replica_whose_address_is_gone_finishes_what_it_has_and_gets_nothing_new() -> None:
    leaving, staying, drafter = FakeVerifier(), FakeVerifier(), FakeDrafter()
    async with fleet_of(leaving, staying, drafter, refresh_s=60):
        told = ToldAddresses(leaving)
        fleet = fleet_told(told, ToldAddresses(drafter))
        async with fleet.watched():
            [replica] = fleet.verifiers
            rounds = []
            async for round_ in generation(fleet).rounds():
                rounds.append(round_)
                if len(rounds) == 1:
                    told.tell(staying)
                    await until(lambda: [r.address for r in fleet.target("alphabet").replicas] == [staying.address])
                    await until(lambda: fleet.target("alphabet").is_up)
                    assert (await run(generation(fleet)))[0] == UNDISTURBED
            assert text_of(rounds) == UNDISTURBED
            assert (leaving.openings, staying.openings) == ([[0]], [[0]])
            assert not replica.is_up


async def test_the_channel_of_a_replica_that_is_gone_closes_with_its_last_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.roster._LINGER_S", 0.01)
    verifier = FakeVerifier()
    async with fleet_of(verifier):
        told = ToldAddresses(verifier)
        fleet = Fleet(verifiers=[told], drafters=[], refresh_s=0.02, ejection=EjectionPolicy())
        async with fleet.watched():
            [replica] = fleet.verifiers
            rounds = generation(fleet).rounds()
            await anext(rounds)
            told.tell()
            await until(lambda: fleet.verifiers == [])
            await asyncio.sleep(0.1)
            await anext(rounds)
            await rounds.aclose()
            await until(lambda: replica.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)


async def test_an_address_that_comes_back_is_a_new_replica() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier):
        told = ToldAddresses(verifier)
        fleet = fleet_told(told, ToldAddresses())
        async with fleet.watched():
            [before] = fleet.verifiers
            told.tell()
            told.tell(verifier)
            await until(lambda: fleet.verifiers not in ([], [before]))
            await until(lambda: fleet.target("alphabet").is_up)
            assert fleet.target("alphabet").replicas == fleet.verifiers


async def test_sources_of_one_pool_are_taken_together() -> None:
    first, second = FakeVerifier(), FakeVerifier()
    async with fleet_of(first, second):
        sources = [ToldAddresses(first), ToldAddresses(first, second)]
        fleet = Fleet(verifiers=sources, drafters=[], refresh_s=60, ejection=EjectionPolicy())
        async with fleet.watched():
            assert len(fleet.verifiers) == 2
            sources[1].tell()
            await until(lambda: [r.address for r in fleet.verifiers] == [first.address])


async def test_a_start_does_not_wait_for_replicas_that_are_not_there() -> None:
    gone = FakeVerifier()
    await gone.start()
    await gone.stop()
    async with asyncio.timeout(10), fleet_told(ToldAddresses(gone), ToldAddresses()).watched():
        pass


def loaded(num_sessions: int) -> Step:
    """Replies say that so many of 10 sessions are open."""

    def add(reply: verifier_pb2.VerifyReply) -> verifier_pb2.VerifyReply:
        reply.load.CopyFrom(load_pb2.ReplicaLoad(num_sessions=num_sessions, max_sessions=10))
        return reply

    return add


async def test_what_replies_say_of_the_load_decides_who_is_asked_next() -> None:
    full, idle = FakeVerifier(always=loaded(10)), FakeVerifier(always=loaded(1))
    async with fleet_of(full, idle, refresh_s=60) as fleet:
        while not full.openings:  # either may be the first
            await run(generation(fleet, max_new_tokens=1))
        num_before = len(idle.openings)
        for _ in range(10):
            await run(generation(fleet, max_new_tokens=1))
        assert (len(full.openings), len(idle.openings)) == (1, num_before + 10)


async def test_a_replica_says_how_busy_it_is_as_it_describes_itself() -> None:
    full = FakeVerifier(load=load_pb2.ReplicaLoad(num_sessions=10, max_sessions=10))
    async with fleet_of(full) as fleet:
        assert fleet.verifiers[0].load.is_full


@pytest.mark.parametrize("role", ["verifier", "drafter"])
async def test_those_to_avoid_are_chosen_only_where_no_other_is_up(role: str) -> None:
    services = [FakeVerifier(), FakeVerifier()] if role == "verifier" else [FakeDrafter(), FakeDrafter()]
    async with fleet_of(*services, refresh_s=60) as fleet:
        pool = fleet.verifiers if role == "verifier" else fleet.drafters

        def choose(avoid: frozenset[object]) -> object:
            if role == "verifier":
                return fleet.target("alphabet").choose_replica([0], avoid=avoid)  # type: ignore[arg-type]
            return choose_replica(pool, avoid=avoid)  # type: ignore[type-var, arg-type]

        assert {choose(frozenset(pool[:1])) for _ in range(20)} == {pool[1]}
        pool[1].report_failure("test")
        assert choose(frozenset(pool[:1])) is pool[0]
        pool[0].report_failure("test")
        with pytest.raises(Unavailable):
            choose(frozenset())


async def test_requests_with_the_same_beginning_meet_at_one_verifier() -> None:
    async with fleet_of(FakeVerifier(), FakeVerifier(), FakeVerifier(), refresh_s=60) as fleet:
        target = fleet.target("alphabet")
        for first in range(5):
            chosen = {target.choose_replica([first, *PROMPT, last]).address for last in range(10)}
            assert len(chosen) == 1


async def test_prompts_without_a_full_block_in_common_spread() -> None:
    async with fleet_of(FakeVerifier(), FakeVerifier(), refresh_s=60) as fleet:
        target = fleet.target("alphabet")
        assert {target.choose_replica([first, *PROMPT]) for first in range(40)} == set(fleet.verifiers)


async def test_a_beginning_that_everybody_shares_spreads_once_its_verifier_is_busy() -> None:
    async with fleet_of(FakeVerifier(), FakeVerifier(), FakeVerifier(), refresh_s=60) as fleet:
        target = fleet.target("alphabet")
        for _ in range(30):
            target.choose_replica(PROMPT).num_streams += 1
        num_streams = [replica.num_streams for replica in fleet.verifiers]
        for replica in fleet.verifiers:
            replica.num_streams = 0
        assert sum(num_streams) == 30
        assert min(num_streams) >= 5


async def test_a_verifier_that_was_away_is_not_taken_to_hold_anything() -> None:
    verifier, other = FakeVerifier(), FakeVerifier()
    async with fleet_of(verifier, other, refresh_s=0.05) as fleet:
        target = fleet.target("alphabet")
        holder = target.choose_replica(PROMPT)
        holder.report_failure("test")
        assert target.choose_replica([1, 2]) is not holder
        await until(lambda: holder.is_up)
        holder.num_streams = 1  # little enough to be preferred if it held the prompt
        chosen, holder.num_streams = target.choose_replica(PROMPT), 0
        assert chosen is not holder


async def test_a_request_that_moves_takes_its_text_along() -> None:
    async with fleet_of(FakeVerifier(), FakeVerifier(), refresh_s=60) as fleet:
        target = fleet.target("alphabet")
        first = target.choose_replica(PROMPT)
        second = target.choose_replica(PROMPT, avoid={first})
        assert second is not first
        assert target.choose_replica([*PROMPT, 5, 6]) is second


async def test_a_name_instead_of_an_address_finds_the_replicas_behind_it() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier):
        sources = sources_of([f"dns:///localhost:{verifier.port}"], dns_refresh_s=60)
        fleet = Fleet(verifiers=sources, drafters=[], refresh_s=60, ejection=EjectionPolicy())
        async with fleet.watched():
            assert [replica.address for replica in fleet.verifiers if replica.is_up] == [verifier.address]
            assert (await run(generation(fleet)))[0] == UNDISTURBED
