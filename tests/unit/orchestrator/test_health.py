"""Replicas that drain, die, come back or say nothing of their health, over real gRPC: nobody has to ask first."""

import asyncio
import time

import pytest

from draftpool.client import Client
from orchestrator.fleet import Fleet
from orchestrator.metrics import POOL_REPLICAS, watch_pools
from orchestrator.replicas import Health, PoolState, VerifierReplica
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, fleet_of, until
from tests.unit.orchestrator.generating import generation, run, text_of
from tests.unit.orchestrator.serving import serving

UNDISTURBED = "bcdefghijklm"


async def listed(fleet: Fleet) -> list[tuple[str, bool]]:
    """The models that a client is told of, and whether they have a drafter."""
    async with serving(fleet) as served, Client(served.address) as client:
        return [(model.name, model.has_drafter) for model in await client.list_models()]


async def test_a_verifier_or_drafter_that_dies_idle_is_not_named_any_more_and_is_again_when_it_is_back() -> None:
    verifier, drafter, other = FakeVerifier(), FakeDrafter(), FakeVerifier("beta")
    async with fleet_of(verifier, drafter, other) as fleet:
        assert await listed(fleet) == [("alphabet", True), ("beta", True)]
        await verifier.stop()
        await drafter.stop()
        await until(lambda: not fleet.target("alphabet").is_up and not fleet.drafters[0].is_up)
        assert await listed(fleet) == [("beta", False)]
        await verifier.start()
        await drafter.start()
        await until(lambda: fleet.target("alphabet").is_up and fleet.drafters[0].is_up)
        await until(lambda: fleet.shared_vocabulary(fleet.target("alphabet")) is not None)
        assert (await listed(fleet))[0] == ("alphabet", True)


async def test_a_replica_that_restarts_idle_as_another_model_is_taken_for_what_it_is() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier) as fleet:
        await verifier.stop()
        verifier.model = "beta"
        await verifier.start()
        await until(lambda: "beta" in fleet.targets)
        assert not fleet.target("alphabet").is_up
        assert fleet.target("alphabet").replicas == []


async def test_a_verifier_that_drains_gets_no_new_requests_and_finishes_those_it_has() -> None:
    draining, other = FakeVerifier(), FakeVerifier()
    async with fleet_of(draining, FakeDrafter()) as fleet, fleet_of(draining, other) as fleet_of_two:
        [replica] = fleet.target("alphabet").replicas
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                await draining.drain()
                await until(lambda: sum(r.is_up for r in fleet_of_two.target("alphabet").replicas) == 1)
                await until(lambda: not replica.is_up)
                assert replica.state is PoolState.DRAINING
                assert (await run(generation(fleet_of_two)))[0] == UNDISTURBED
        assert text_of(rounds) == UNDISTURBED
        assert (draining.openings, other.openings) == ([[0]], [[0]])
        await draining.recover()
        await until(lambda: replica.is_up)


async def test_a_drafter_that_drains_goes_on_drafting_for_those_it_has() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                await drafter.drain()
                await until(lambda: not fleet.drafters[0].is_up)
        assert all(round_.tree.num_nodes for round_ in rounds[:-1])
        assert drafter.openings == [[0]]


async def test_watching_its_health_does_not_hold_up_a_servers_drain() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier) as fleet:
        await verifier.drain()
        await until(lambda: not fleet.target("alphabet").is_up)
        start = time.monotonic()
        await verifier.stop(grace_s=30)
        assert time.monotonic() - start < 10


async def test_without_a_health_service_requests_alone_tell() -> None:
    verifier = FakeVerifier()
    verifier.has_health = False
    async with fleet_of(verifier) as fleet:
        [replica] = fleet.target("alphabet").replicas
        assert (replica.health, replica.is_up) == (Health.UNTOLD, True)
        assert (await run(generation(fleet)))[0] == UNDISTURBED
        replica.report_failure("test")
        assert not replica.is_up
        await until(lambda: replica.is_up)


async def test_a_probe_tells_whether_a_replica_answers_in_time_draining_or_not() -> None:
    verifier, untold = FakeVerifier(), FakeVerifier("beta")
    untold.has_health = False
    async with fleet_of(verifier, untold) as fleet:
        [replica], [replica_untold] = fleet.target("alphabet").replicas, fleet.target("beta").replicas
        assert await replica.probe(3)
        assert await replica_untold.probe(3)
        await verifier.drain()
        assert await replica.probe(3)
        await verifier.stop()
        assert not await replica.probe(3)


async def test_a_probe_of_a_server_that_says_nothing_ends_in_time() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    replica = VerifierReplica(f"127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(10):
        assert not await replica.probe(0.05)
    await replica.channel.close()
    silent.close()


async def test_what_is_counted_is_what_each_replica_is_to_its_pool() -> None:
    up, draining, dead, ejected, idle = FakeVerifier(), FakeVerifier(), FakeVerifier(), FakeVerifier(), FakeDrafter()
    async with fleet_of(up, draining, dead, ejected, idle, refresh_s=60) as fleet:
        watch_pools(fleet)
        await draining.drain()
        await dead.stop()
        failing = next(replica for replica in fleet.verifiers if replica.address == ejected.address)
        failing.report_failure("test")
        await until(lambda: sum(replica.is_up for replica in fleet.verifiers) == 1)
        counted = {
            (sample.labels["role"], sample.labels["state"]): sample.value
            for metric in POOL_REPLICAS.collect()
            for sample in metric.samples
        }
        assert counted == {
            ("verifier", "up"): 1,
            ("verifier", "draining"): 1,
            ("verifier", "ejected"): 1,
            ("verifier", "down"): 1,
            ("drafter", "up"): 1,
            ("drafter", "draining"): 0,
            ("drafter", "ejected"): 0,
            ("drafter", "down"): 0,
        }


async def test_many_streams_that_break_at_once_are_one_failure() -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, refresh_s=60) as fleet:
        replica = fleet.verifiers[0]
        for _ in range(8):
            replica.report_failure("test")
        assert replica.failures.num_failures == 1


async def test_a_replica_that_fails_while_it_describes_itself_has_to_do_it_again() -> None:
    class Slow(FakeVerifier):
        num_described = 0
        may_answer = asyncio.Event()

        async def Describe(self, request, context):
            self.num_described += 1
            if self.num_described == 2:
                await self.may_answer.wait()
            return await super().Describe(request, context)

    verifier = Slow()
    async with fleet_of(verifier) as fleet:
        fleet.verifiers[0].report_failure("test")
        await until(lambda: verifier.num_described == 2)
        fleet.verifiers[0].report_failure("again")
        verifier.may_answer.set()
        await until(lambda: fleet.verifiers[0].is_up)
        assert verifier.num_described == 3


@pytest.mark.parametrize("role", ["verifier", "drafter"])
async def test_a_replica_that_fails_every_exchange_gets_ever_fewer_of_them(role: str) -> None:
    good, bad = (FakeVerifier(), FakeVerifier()) if role == "verifier" else (FakeDrafter(), FakeDrafter())
    bad.always = Fault.END_STREAM
    rest = [FakeDrafter()] if role == "verifier" else [FakeVerifier()]
    async with fleet_of(good, bad, *rest, refresh_s=0.02) as fleet:
        pool = fleet.verifiers if role == "verifier" else fleet.drafters
        replica = next(member for member in pool if member.address == bad.address)
        while replica.failures.num_failures < 4:
            before_s = time.monotonic()
            assert (await run(generation(fleet)))[0] == UNDISTURBED
        assert replica.failures.ejected_until_s > before_s + 8 * 0.02
        assert bad.openings == []
