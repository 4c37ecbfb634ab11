"""Fleets that follow EndpointSlices while requests run, and what holds whatever happens to slices and connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import slice_troubles
from orchestrator.discovery import sources_of
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from tests.unit.orchestrator.fake_api_server import FakeApiServer, Json, endpoint, endpoint_slice
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeService, FakeVerifier
from tests.unit.orchestrator.following import api_server, followed, service, until
from tests.unit.orchestrator.generating import generation, run

UNDISTURBED = "bcdefghijklm"


def pod_slice(pod: FakeService, role: str, **conditions: bool) -> Json:
    """Each pod has a slice of its own here, as all have one address and the ports differ."""
    told = endpoint("127.0.0.1", pod=str(pod.port), **conditions)
    return endpoint_slice(f"{role}-{pod.port}", told, service=role, ports={"grpc": pod.port})


@asynccontextmanager
async def running(*pods: FakeService) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for pod in pods:
            await pod.start()
            stack.push_async_callback(pod.stop)
        yield


@asynccontextmanager
async def fleet_of_services() -> AsyncIterator[Fleet]:
    fleet = Fleet(
        verifiers=sources_of(["kubernetes:///verifier:grpc"], dns_refresh_s=60),
        drafters=sources_of(["kubernetes:///pools/drafter:grpc"], dns_refresh_s=60),
        refresh_s=0.05,
        ejection=EjectionPolicy(first_s=0.05),
    )
    async with fleet.watched():
        yield fleet


def verifiers_of(fleet: Fleet) -> set[str]:
    return {replica.address for replica in fleet.verifiers}


async def test_a_fleet_follows_the_pods_of_its_services() -> None:
    verifier, beta, drafter = FakeVerifier(), FakeVerifier("beta"), FakeDrafter()
    async with api_server() as server, running(verifier, beta, drafter):
        server.put(pod_slice(verifier, "verifier"))
        server.put(pod_slice(drafter, "drafter"))
        async with fleet_of_services() as fleet:
            assert [replica.address for replica in fleet.drafters] == [drafter.address]
            assert (await run(generation(fleet)))[0] == UNDISTURBED
            server.put(pod_slice(beta, "verifier"))
            await until(lambda: "beta" in fleet.targets)
            server.delete(f"drafter-{drafter.port}")
            await until(lambda: not fleet.drafters)
            assert (await run(generation(fleet, target=fleet.target("beta"))))[0] == UNDISTURBED


async def test_pods_that_come_and_go_disturb_no_request_and_get_none_once_they_have_left() -> None:
    pods = [FakeVerifier() for _ in range(3)]
    async with api_server() as server, running(*pods):
        first, second, third = pods
        server.put(pod_slice(first, "verifier"))
        async with fleet_of_services() as fleet, asked(fleet, num_clients=3) as texts:

            async def only(*expected: FakeVerifier) -> None:
                """Those are the pods, each of them is asked, and nobody else once what was under way has ended."""
                await until(lambda: verifiers_of(fleet) == {pod.address for pod in expected})
                num_before = [len(ended) for ended in texts]
                await until(lambda: all(len(ended) > num for ended, num in zip(texts, num_before, strict=True)))
                num_messages = [pod.num_messages for pod in pods]
                while not all(
                    pod.num_messages > num for pod, num in zip(pods, num_messages, strict=True) if pod in expected
                ):
                    await asyncio.sleep(0.01)
                assert all(
                    pod in expected or pod.num_messages == num for pod, num in zip(pods, num_messages, strict=True)
                )

            await only(first)
            server.put(pod_slice(second, "verifier", ready=False))
            await only(first)
            server.put(pod_slice(second, "verifier", ready=True))
            await only(first, second)
            server.put(pod_slice(first, "verifier", ready=False))
            await only(second)
            server.put(pod_slice(first, "verifier", ready=True))
            await only(first, second)
            server.put(pod_slice(third, "verifier"))
            server.put(pod_slice(first, "verifier", ready=False, serving=True, terminating=True))
            await only(second, third)
            server.cut()
            server.delete(f"verifier-{second.port}")
            await only(third)
        assert {text for ended in texts for text in ended} == {UNDISTURBED}


@asynccontextmanager
async def asked(fleet: Fleet, *, num_clients: int) -> AsyncIterator[list[list[str]]]:
    """Clients that ask all the time; the texts that each has got so far."""
    texts: list[list[str]] = [[] for _ in range(num_clients)]
    is_over = asyncio.Event()

    async def ask(ended: list[str]) -> None:
        while not is_over.is_set():
            ended.append((await run(generation(fleet)))[0])

    clients = [asyncio.create_task(ask(ended)) for ended in texts]
    try:
        yield texts
    finally:
        is_over.set()
        await asyncio.gather(*clients)


CONDITIONS = [{}, {"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}]
SLICES = st.builds(
    lambda name, numbers, conditions, port: endpoint_slice(
        name,
        *(endpoint(f"10.0.0.{n}", **told) for n, told in zip(numbers, conditions, strict=False)),
        ports={"grpc": port},
    ),
    st.sampled_from("abc"),
    st.lists(st.integers(1, 5), max_size=3, unique=True),
    st.lists(st.sampled_from(CONDITIONS), min_size=3, max_size=3),
    st.sampled_from([8000, 8001]),
)
STEPS = st.one_of(
    st.tuples(st.just("put"), SLICES),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["compact", "pass_time", "cut", "cut_in_line", "restart", "breathe"]), st.none()),
    st.tuples(st.just("refuse"), st.sampled_from([401, 403, 410, 429, 500, 503, 504])),
)


@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=25), gone_as_status=st.booleans(), bookmark_s=st.sampled_from([0.001, 60.0]))
def test_whatever_happens_the_end_is_what_the_server_has(
    steps: list[tuple[str, object]], gone_as_status: bool, bookmark_s: float
) -> None:
    async def go_through() -> None:
        async with api_server() as server:
            server.gone_as_status, server.bookmark_s = gone_as_status, bookmark_s
            async with followed(service(refused_pause_s=0.001)) as heard:
                for name, told in steps:
                    await take(server, name, told)
                await heard.until(*expected(server))
                server.put(endpoint_slice("last", endpoint("10.0.1.1"), ports={"grpc": 1}))
                await heard.until(*expected(server))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slice_troubles, "_FIRST_PAUSE_S", 0.001)
        patch.setattr(slice_troubles, "_MAX_PAUSE_S", 0.01)
        asyncio.run(go_through())


async def take(server: FakeApiServer, name: str, told: object) -> None:
    match name, told:
        case "put", dict():
            server.put(told)
        case "delete", str():
            server.delete(told)
        case "refuse", int():
            server.script.append((told, {}))
        case "cut_in_line", _:
            server.cut(in_line=True)
        case "restart", _:
            await server.stop()
            await server.start()
        case "breathe", _:
            await asyncio.sleep(0.01)
        case _:
            getattr(server, name)()


def expected(server: FakeApiServer) -> set[str]:
    """Read off the server's state."""
    able = [{}, {"ready": True}]
    return {
        f"{told['addresses'][0]}:{item['ports'][0]['port']}"
        for item in server.slices
        for told in item["endpoints"] or ()
        if told["conditions"] in able
    }
