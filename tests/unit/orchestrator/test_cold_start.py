"""Targets that have no replica until somebody asks for them, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from draftpool.client import NO_DRAFT, Client
from draftpool.errors import DeadlineExceeded, NoCapacity, Unavailable, UnknownModel
from draftpool.keda import externalscaler_pb2
from orchestrator import metrics
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from tests.unit.orchestrator.fake_services import FakeVerifier, fleet_of, until
from tests.unit.orchestrator.scaling.test_external_scaler import FREE, Keda, keda_at
from tests.unit.orchestrator.serving import serving
from tests.unit.orchestrator.told_addresses import ToldAddresses

ALPHABET = {"target": "alphabet"}
FIVE = {"max_new_tokens": 5, "drafting": NO_DRAFT}


@dataclass
class Cold:
    """An orchestrator whose target has no replica, and who may start one.

    Attributes:
        start: what a cluster does when it scales the pool from zero.
        stop: what it does when it scales to zero.
    """

    client: Client
    keda: Keda
    start: Callable[[], None]
    stop: Callable[[], None]


@asynccontextmanager
async def cold(**settings: Any) -> AsyncIterator[Cold]:
    verifier = FakeVerifier()
    told = ToldAddresses()
    fleet = Fleet(verifiers=[told], drafters=[], refresh_s=0.05, ejection=EjectionPolicy(first_s=0.05))
    made = {"scaler_listen": FREE, "cold_targets": "alphabet", "cold_start_s": 30} | settings
    async with (
        fleet_of(verifier),
        fleet.watched(),
        serving(fleet, **made) as served,
        Client(served.address) as client,
        keda_at(served, ALPHABET) as keda,
    ):
        yield Cold(client, keda, lambda: told.tell(verifier), told.tell)


def num_waiting() -> float:
    return metrics.COLD_WAITING.labels("alphabet")._value.get()


async def test_the_first_requests_for_a_cold_target_wait_for_it_and_are_served() -> None:
    async with cold() as it:
        requests = [asyncio.create_task(it.client.complete("alphabet", "a", **FIVE)) for _ in range(3)]
        await until(lambda: num_waiting() == 3)
        assert (await it.keda.poll())[1] is True
        it.start()
        completions = await asyncio.gather(*requests)
        assert [completion.text for completion in completions] == ["bcdef"] * 3
        assert all(completion.finish.usage.cold_start_us > 0 for completion in completions)
        assert num_waiting() == 0


async def test_keda_is_told_to_start_a_cold_target_as_soon_as_it_is_asked_for() -> None:
    async with cold() as it, asyncio.timeout(10):
        pushes = it.keda.pushes()
        assert await anext(pushes) is False
        request = asyncio.create_task(it.client.complete("alphabet", "a", **FIVE))
        assert await anext(pushes) is True
        it.start()
        assert (await request).text == "bcdef"
        assert await anext(pushes) is False


async def test_a_target_that_was_served_once_and_went_is_waited_for_without_being_named() -> None:
    async with cold(cold_targets="", recovery_s=0.001) as it:
        with pytest.raises(UnknownModel):
            await it.client.complete("alphabet", "a", **FIVE)
        it.start()
        await until_listed(it.client, {"alphabet": False})
        it.stop()
        await until_listed(it.client, {})
        request = asyncio.create_task(it.client.complete("alphabet", "a", **FIVE))
        await until(lambda: num_waiting() == 1)
        it.start()
        assert (await request).text == "bcdef"


async def test_past_its_time_a_cold_target_is_unavailable_with_a_time_to_come_again() -> None:
    async with cold(cold_start_s=0.1) as it:
        with pytest.raises(Unavailable, match=r"within 0\.1 s") as raised:
            await it.client.complete("alphabet", "a", **FIVE)
        assert raised.value.retry_after_s
        assert (await it.keda.poll())[1] is False


async def test_a_deadline_ends_the_wait_and_leaves_nothing_behind() -> None:
    async with cold() as it:
        with pytest.raises(DeadlineExceeded):
            await it.client.complete("alphabet", "a", timeout_s=0.2, **FIVE)
        await until(lambda: num_waiting() == 0)
        assert (await it.keda.poll())[1] is False


async def test_no_more_requests_wait_for_cold_targets_than_may() -> None:
    async with cold(max_queued_requests=1) as it:
        request = asyncio.create_task(it.client.complete("alphabet", "a", **FIVE))
        await until(lambda: num_waiting() == 1)
        with pytest.raises(NoCapacity):
            await it.client.complete("alphabet", "a", **FIVE)
        it.start()
        assert (await request).text == "bcdef"


async def test_cold_targets_are_listed_as_such_and_remembered_with_what_they_are() -> None:
    async with cold() as it:
        [unseen] = await it.client.list_models()
        assert (unseen.name, unseen.is_cold, unseen.architecture) == ("alphabet", True, "")
        it.start()
        await until_listed(it.client, {"alphabet": False})
        it.stop()
        await until_listed(it.client, {"alphabet": True})
        [remembered] = await it.client.list_models()
        assert (remembered.architecture, remembered.vocab_size) == ("fake", 27)


async def test_a_name_that_is_neither_served_nor_cold_is_refused_and_no_demand() -> None:
    async with cold() as it:
        with pytest.raises(UnknownModel, match="alphabet"):
            await it.client.complete("alphabeth", "a", **FIVE)
        reply = await it.keda._stub.IsActive(
            externalscaler_pb2.ScaledObjectRef(scaler_metadata={"target": "alphabeth"})
        )
        assert not reply.result


async def until_listed(client: Client, is_cold_by_name: dict[str, bool]) -> None:
    async with asyncio.timeout(5):
        while {model.name: model.is_cold for model in await client.list_models()} != is_cold_by_name:
            await asyncio.sleep(0.01)
