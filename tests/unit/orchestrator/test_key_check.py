"""API keys at the public port: real gRPC, the fake services behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from draftpool.client import Client, Finish, Token
from draftpool.errors import NotAllowed, RateLimited, Unauthenticated
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.security import ServerSecurity
from draftpool.rpc.status import from_rpc_error
from draftpool.v1 import generation_pb2, generation_pb2_grpc
from orchestrator.api_keys import hash_of, new_key, watched_keys
from orchestrator.client_identity import client_of
from orchestrator.key_check import KeyCheck
from tests.unit.orchestrator.fake_services import FakeVerifier, Fault, until
from tests.unit.orchestrator.serving import orchestrator_of

ALICE, BOB = new_key(), new_key()


class Keys:
    """A file of keys with these limits for alice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit_alice("")

    def limit_alice(self, limits: str) -> None:
        self.path.write_text(f'[bob]\nsha256 = "{hash_of(BOB)}"\n[alice]\nsha256 = "{hash_of(ALICE)}"\n{limits}\n')

    @asynccontextmanager
    async def served(self, verifier: FakeVerifier | None = None, **settings: object) -> AsyncIterator[str]:
        security = ServerSecurity(has_api_keys=True, interceptors=(KeyCheck(watched_keys(self.path)),))
        async with orchestrator_of(verifier or FakeVerifier(), security=security, **settings) as address:
            yield address


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.toml")


async def text(client: Client, **options: object) -> str:
    completion = await client.complete("alphabet", [0], temperature=0, **{"max_new_tokens": 5} | options)
    return completion.text


async def test_who_shows_a_key_is_served(keys: Keys) -> None:
    async with keys.served() as address, Client(address, api_key=ALICE) as client:
        assert [model.name for model in await client.list_models()] == ["alphabet"]
        assert await text(client) == "bcdef"


@pytest.mark.parametrize("api_key", [None, new_key()])
async def test_who_shows_none_or_another_gets_no_further(keys: Keys, api_key: str | None) -> None:
    async with keys.served() as address, Client(address, api_key=api_key) as client:
        with pytest.raises(Unauthenticated):
            await client.list_models()
        with pytest.raises(Unauthenticated):
            await text(client)


async def test_a_stranger_s_request_is_not_even_read(keys: Keys) -> None:
    """It would have to be decoded, and this one cannot be."""
    async with keys.served() as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream("/draftpool.v1.Generation/Generate")(b"\xff" * 100_000)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert type(from_rpc_error(refused.value)) is Unauthenticated


async def test_keys_come_and_go_without_a_restart(keys: Keys) -> None:
    async with keys.served() as address, Client(address, api_key=ALICE) as client:
        keys.path.write_text("")
        with pytest.raises(Unauthenticated):
            await text(client)
        keys.limit_alice("")
        assert await text(client) == "bcdef"


async def test_requests_past_the_limit_are_refused_with_a_time_to_come_again(keys: Keys) -> None:
    keys.limit_alice("requests_per_minute = 0.1")
    async with keys.served() as address, Client(address, api_key=ALICE) as alice, Client(address, api_key=BOB) as bob:
        await text(alice)
        with pytest.raises(RateLimited) as refused:
            await text(alice)
        assert refused.value.retry_after_s == pytest.approx(600, rel=0.1)
        await text(bob)


async def test_only_so_many_generations_of_a_key_at_once_whoever_cancels(keys: Keys) -> None:
    keys.limit_alice("max_concurrent_requests = 1")
    verifier = FakeVerifier(always=Fault.HANG)
    async with keys.served(verifier) as address, Client(address, api_key=ALICE) as client:
        hanging = asyncio.create_task(text(client))
        await until(lambda: verifier.num_open == 1)
        with pytest.raises(RateLimited, match="1 requests at the same time"):
            await text(client)
        hanging.cancel()
        await until(lambda: verifier.num_open == 0)
        verifier.always = None
        assert await text(client) == "bcdef"


async def test_tokens_are_counted_as_they_come(keys: Keys) -> None:
    keys.limit_alice("tokens_per_minute = 0.01")
    async with keys.served() as address, Client(address, api_key=ALICE) as client:
        assert await text(client) == "bcdef"
        with pytest.raises(RateLimited) as refused:
            await text(client)
        # 1 token of the prompt and 5 of the answer are owed, less what a minute gives.
        assert refused.value.retry_after_s == pytest.approx(6 / 0.01 * 60, rel=0.1)


async def test_longer_answers_than_the_key_allows_are_not(keys: Keys) -> None:
    keys.limit_alice("max_new_tokens = 7")
    async with keys.served() as address, Client(address, api_key=ALICE) as client:
        with pytest.raises(NotAllowed, match="7 new tokens"):
            await text(client, max_new_tokens=8)
        assert len(await text(client, max_new_tokens=7)) == 7
        assert len(await text(client, max_new_tokens=None)) == 7


async def test_a_key_s_requests_are_no_more_urgent_than_it_allows(keys: Keys) -> None:
    """Batch waits behind what comes later and is more urgent."""
    keys.limit_alice('priority = "batch"')
    verifier = FakeVerifier()
    order: list[str] = []
    async with (
        keys.served(verifier, max_requests=1, priority_lift_s=1000) as address,
        Client(address, api_key=ALICE) as alice,
        Client(address, api_key=BOB) as bob,
    ):

        async def ask(client: Client, name: str) -> None:
            await text(client, priority="interactive")
            order.append(name)

        verifier.ration = asyncio.Semaphore(0)
        running = asyncio.create_task(ask(bob, "first"))
        await until(lambda: verifier.num_open == 1)
        waiting = asyncio.create_task(ask(alice, "alice"))
        await asyncio.sleep(0.3)
        later = asyncio.create_task(ask(bob, "bob"))
        await asyncio.sleep(0.3)
        for _ in range(100):
            verifier.ration.release()
        await asyncio.gather(running, waiting, later)
    assert order == ["first", "bob", "alice"]


async def test_a_client_that_stops_early_frees_its_place(keys: Keys) -> None:
    keys.limit_alice("max_concurrent_requests = 1")
    async with keys.served() as address, Client(address, api_key=ALICE) as client:
        for _ in range(3):
            generation = client.generate("alphabet", [0], temperature=0, max_new_tokens=50)
            async for event in generation:
                if isinstance(event, Token | Finish):
                    break
            await generation.aclose()
            await asyncio.sleep(0.2)
        await text(client)


async def test_health_and_reflection_need_no_key(keys: Keys) -> None:
    """Not served here, but they are let through: UNIMPLEMENTED is theirs."""
    async with keys.served() as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            await channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        assert answered.value.code() is grpc.StatusCode.UNIMPLEMENTED


class Recorder(generation_pb2_grpc.GenerationServicer):
    """Remembers whom each call is taken for."""

    def __init__(self) -> None:
        self.clients: list[str] = []

    async def Generate(self, request, context):  # noqa: ARG002
        self.clients.append(client_of(context))
        yield generation_pb2.GenerateReply()

    async def ListModels(self, request, context):  # noqa: ARG002
        self.clients.append(client_of(context))
        return generation_pb2.ListModelsReply()


async def test_turns_go_by_the_key_s_name_whatever_the_client_says_of_itself(keys: Keys) -> None:
    recorder = Recorder()
    server = grpc.aio.server(interceptors=[MannersInterceptor(), KeyCheck(watched_keys(keys.path))])
    generation_pb2_grpc.add_GenerationServicer_to_server(recorder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for api_key in (ALICE, BOB):
        async with Client(f"127.0.0.1:{port}", api_key=api_key, client_id="key:carol") as client:
            await client.list_models()
            async for _ in client.generate("alphabet", [0]):
                pass
    await server.stop(None)
    assert recorder.clients == ["key:alice", "key:alice", "key:bob", "key:bob"]
