"""KEDA's protocol over real gRPC, in the order in which KEDA calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from draftpool.client import NO_DRAFT, Client
from draftpool.keda import externalscaler_pb2, externalscaler_pb2_grpc
from draftpool.v1 import load_pb2
from orchestrator.scaling.peers import Peers
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, fleet_of, until
from tests.unit.orchestrator.serving import Served, serving

FREE = "127.0.0.1:0"
VERIFIERS = {"scalerAddress": "scaler:50060", "target": "alphabet", "budgetShare": "0.5", "queueMs": "100"}
DRAFTERS = {"scalerAddress": "scaler:50060", "pool": "drafter"}


class Keda:
    """Calls a scaler as KEDA's operator does for one trigger."""

    def __init__(self, channel: grpc.aio.Channel, metadata: dict[str, str]) -> None:
        self._stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        self._ref = externalscaler_pb2.ScaledObjectRef(name="pool", namespace="test", scaler_metadata=metadata)

    async def specs(self) -> dict[str, float]:
        """What makes the HorizontalPodAutoscaler: a target of more than 0 is taken, else the whole number."""
        reply = await self._stub.GetMetricSpec(self._ref)
        return {spec.metric_name: spec.target_size_float or spec.target_size for spec in reply.metric_specs}

    async def poll(self) -> tuple[dict[str, float], bool]:
        """For every metric its value and whether the pool is active, one call after the other."""
        values, is_active = {}, False
        for name in await self.specs():
            request = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=self._ref, metric_name=name)
            for value in (await self._stub.GetMetrics(request)).metric_values:
                values[value.metric_name] = value.metric_value_float or value.metric_value
            is_active |= (await self._stub.IsActive(self._ref)).result
        return values, is_active

    async def pushes(self) -> AsyncIterator[bool]:
        async for reply in self._stub.StreamIsActive(self._ref):
            yield reply.result

    async def metric(self, name: str) -> None:
        request = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=self._ref, metric_name=name)
        await self._stub.GetMetrics(request)


@asynccontextmanager
async def keda_at(served: Served, metadata: dict[str, str]) -> AsyncIterator[Keda]:
    async with grpc.aio.insecure_channel(served.scaler) as channel:
        yield Keda(channel, metadata)


def loaded(**load: float):
    return load_pb2.ReplicaLoad(max_sessions=8, **load)


async def test_values_are_sums_over_the_replicas_and_thresholds_what_one_should_have() -> None:
    verifiers = [
        FakeVerifier(load=loaded(budget_share=0.25, queue_us=50_000)),
        FakeVerifier(load=loaded(budget_share=0.5, queue_us=250_000)),
        FakeVerifier("other", load=loaded(budget_share=1.0)),
    ]
    async with (
        fleet_of(*verifiers) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, VERIFIERS) as keda,
    ):
        assert await keda.specs() == {"draftpool-verifier-budget-share": 0.5, "draftpool-verifier-queue-ms": 100.0}
        values, is_active = await keda.poll()
    assert values == {"draftpool-verifier-budget-share": 0.75, "draftpool-verifier-queue-ms": 300.0}
    assert not is_active


async def test_drafters_are_scaled_apart_from_verifiers() -> None:
    drafters = [FakeDrafter(load=loaded(busy_share=0.5, queue_us=4_000)) for _ in range(2)]
    async with (
        fleet_of(FakeVerifier(), *drafters) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, DRAFTERS) as keda,
    ):
        assert await keda.specs() == {"draftpool-drafter-busy-share": 0.7, "draftpool-drafter-queue-ms": 10.0}
        assert await keda.poll() == (
            {"draftpool-drafter-busy-share": 1.0, "draftpool-drafter-queue-ms": 8.0},
            False,
        )


async def test_what_another_orchestrator_does_with_a_replica_is_asked_of_the_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.scaling.loads._FRESH_S", 0.0)
    verifier = FakeVerifier(load=loaded())
    async with (
        fleet_of(verifier) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, VERIFIERS) as keda,
    ):
        assert (await keda.poll())[1] is False
        verifier.told["load"] = loaded(num_sessions=3, budget_share=0.5)
        assert await keda.poll() == (
            {"draftpool-verifier-budget-share": 0.5, "draftpool-verifier-queue-ms": 0.0},
            True,
        )
    assert all(request.load_only for request in verifier.described[1:])


async def test_a_stream_tells_at_once_when_a_target_is_wanted_and_when_no_more() -> None:
    verifier, may_answer = FakeVerifier(), asyncio.Event()
    verifier.always = may_answer
    async with (
        fleet_of(verifier) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, VERIFIERS) as keda,
        Client(served.address) as client,
    ):
        pushes = keda.pushes()
        async with asyncio.timeout(10):
            assert await anext(pushes) is False
            request = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=2, drafting=NO_DRAFT))
            assert await anext(pushes) is True
            may_answer.set()
            assert (await request).text == "bc"
            assert await anext(pushes) is False


async def test_any_orchestrator_tells_the_demand_of_all_whichever_keda_asks() -> None:
    verifier, may_answer = FakeVerifier(), asyncio.Event()
    verifier.always = may_answer
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(fleet_of(verifier))
        first = await stack.enter_async_context(serving(fleet, scaler_listen=FREE))
        second = await stack.enter_async_context(
            serving(fleet, scaler_listen=FREE, peers=(first.scaler, "127.0.0.1:1"))
        )
        keda = await stack.enter_async_context(keda_at(second, VERIFIERS | {"requests": "4"}))
        assert (await keda.poll())[0]["draftpool-verifier-requests"] == 0
        client = await stack.enter_async_context(Client(first.address))
        requests = [
            asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=2, drafting=NO_DRAFT)) for _ in range(3)
        ]
        await until(lambda: verifier.num_open == 3)
        values, is_active = await keda.poll()
        assert (values["draftpool-verifier-requests"], is_active) == (3, True)
        may_answer.set()
        await asyncio.gather(*requests)
        await until(lambda: verifier.num_open == 0)


async def test_a_peer_that_goes_while_it_is_asked_takes_no_answer_away() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier) as fleet, serving(fleet, scaler_listen=FREE) as other:
        told = asyncio.Queue()
        told.put_nowait(frozenset({other.scaler}))
        peers = Peers([Told(told)], own_id="none")
        async with peers.kept():
            await until(lambda: told.empty())
            for _ in range(20):
                asked = asyncio.create_task(peers.demands())
                await asyncio.sleep(0)
                told.put_nowait(frozenset())
                told.put_nowait(frozenset({other.scaler}))
                assert len(await asked) <= 1
                await until(lambda: told.empty())


@dataclass
class Told:
    """A source of addresses in the test's hands."""

    sets: asyncio.Queue[frozenset[str]]

    async def watch(self) -> AsyncIterator[frozenset[str]]:
        while True:
            yield await self.sets.get()


async def test_an_orchestrator_among_its_own_peers_is_counted_once() -> None:
    verifier, may_answer = FakeVerifier(), asyncio.Event()
    verifier.always = may_answer
    async with fleet_of(verifier) as fleet, serving(fleet, scaler_listen=FREE) as probe:
        own = probe.scaler
    async with (
        fleet_of(verifier) as fleet,
        serving(fleet, scaler_listen=own, peers=(own,)) as served,
        keda_at(served, VERIFIERS | {"requests": "4"}) as keda,
        Client(served.address) as client,
    ):
        request = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=2, drafting=NO_DRAFT))
        await until(lambda: verifier.num_open == 1)
        assert (await keda.poll())[0]["draftpool-verifier-requests"] == 1
        may_answer.set()
        await request


@pytest.mark.parametrize("metadata", [{}, VERIFIERS | {"budgetshare": "1"}], ids=["nothing", "a typo"])
async def test_metadata_that_is_wrong_is_an_error_that_keda_shows(metadata: dict[str, str]) -> None:
    async with (
        fleet_of(FakeVerifier()) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, metadata) as keda,
    ):
        for ask in (keda.specs(), keda.metric("draftpool-verifier-queue-ms"), anext(keda.pushes())):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ask
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_metric_that_the_pool_does_not_have_is_an_error() -> None:
    async with (
        fleet_of(FakeVerifier()) as fleet,
        serving(fleet, scaler_listen=FREE) as served,
        keda_at(served, VERIFIERS) as keda,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="draftpool-verifier-budget-share"):
            await keda.metric("s0-draftpool-verifier-queue-ms")


async def test_the_public_port_serves_no_scaler() -> None:
    async with fleet_of(FakeVerifier()) as fleet, serving(fleet) as served:
        assert served.scaler is None
        async with keda_at(Served(served.address, served.address), VERIFIERS) as keda:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await keda.specs()
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_on_the_wire_it_is_kedas() -> None:
    """Names and numbers as in kedacore/keda, pkg/scalers/externalscaler/externalscaler.proto."""
    service = externalscaler_pb2.DESCRIPTOR.services_by_name["ExternalScaler"]
    assert service.full_name == "externalscaler.ExternalScaler"
    assert [method.name for method in service.methods] == ["IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics"]
    fields = {
        message.name: {field.json_name: field.number for field in message.fields}
        for message in externalscaler_pb2.DESCRIPTOR.message_types_by_name.values()
    }
    assert fields == {
        "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
        "IsActiveResponse": {"result": 1},
        "GetMetricSpecResponse": {"metricSpecs": 1},
        "MetricSpec": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
        "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
        "GetMetricsResponse": {"metricValues": 1},
        "MetricValue": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
    }
