"""Where replicas are said to be: what is taken for an address, and what a name's answers change."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from orchestrator.discovery import DnsName, StaticAddresses, sources_of
from orchestrator.kubernetes_discovery import KubernetesService
from orchestrator.settings import OrchestratorSettings


@dataclass(frozen=True)
class ScriptedName(DnsName):
    """Its records are told, one answer after the other; the last one stays."""

    answers: list[frozenset[str] | OSError] = field(default_factory=list)

    async def _resolve(self) -> frozenset[str]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


def scripted(*answers: set[str] | OSError) -> ScriptedName:
    told = [answer if isinstance(answer, OSError) else frozenset(answer) for answer in answers]
    return ScriptedName("pool", 1, refresh_s=0.001, answers=told)


async def told(source: DnsName | StaticAddresses, num: int) -> list[set[str]]:
    async def changes() -> AsyncIterator[set[str]]:
        async with aclosing(source.watch()) as sets:
            async for addresses in sets:
                yield set(addresses)

    async with asyncio.timeout(3), aclosing(changes()) as sets:
        return [await anext(sets) for _ in range(num)]


async def test_a_list_is_told_once() -> None:
    [source] = sources_of(["a:1", "[::1]:2", "a:1"], dns_refresh_s=1)
    assert [addresses async for addresses in source.watch()] == [{"a:1", "[::1]:2"}]


async def test_a_pool_may_have_a_list_and_names_at_once() -> None:
    assert sources_of(["a:1", "dns:///pool.local:2", "dns:///other:3"], dns_refresh_s=7) == [
        StaticAddresses(frozenset({"a:1"})),
        DnsName("pool.local", 2, refresh_s=7),
        DnsName("other", 3, refresh_s=7),
    ]


async def test_a_pool_without_entries_has_no_source() -> None:
    assert sources_of([], dns_refresh_s=1) == []


async def test_a_service_is_named_with_or_without_its_namespace_and_its_port_by_number_or_name() -> None:
    assert sources_of(["kubernetes:///verifier:grpc", "kubernetes:///pools/verifier-2:8000"], dns_refresh_s=7) == [
        KubernetesService("verifier", "grpc"),
        KubernetesService("verifier-2", 8000, "pools"),
    ]


def test_the_kubernetes_client_is_loaded_only_where_a_service_is_named() -> None:
    script = (
        "import sys\nfrom orchestrator.discovery import sources_of\n"
        "import orchestrator.server\nsources_of(['a:1', 'dns:///a:1'], dns_refresh_s=1)\n"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_without_the_client_a_service_is_refused_at_start_and_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio.client", None)
    for name in ("orchestrator.kubernetes_discovery", "orchestrator.slice_api"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValidationError, match=r"install draftpool\[kubernetes\]"):
        OrchestratorSettings(verifiers="kubernetes:///verifier:grpc")


async def test_a_name_is_all_the_addresses_that_the_resolver_knows() -> None:
    infos = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    expected = {f"[{info[4][0]}]:80" if ":" in str(info[4][0]) else f"{info[4][0]}:80" for info in infos}
    assert await told(DnsName("localhost", 80, refresh_s=60), 1) == [expected]


async def test_records_that_come_and_go_are_told_and_the_same_ones_again_are_not() -> None:
    name = scripted({"a:1"}, {"a:1"}, {"a:1", "b:1"}, {"a:1", "b:1"}, {"b:1"})
    assert await told(name, 3) == [{"a:1"}, {"a:1", "b:1"}, {"b:1"}]


async def test_neither_a_failed_lookup_nor_an_empty_answer_takes_anybody_away() -> None:
    name = scripted({"a:1"}, socket.gaierror(-3, "try again"), set(), {"b:1"})
    assert await told(name, 2) == [{"a:1"}, {"b:1"}]


async def test_a_name_without_records_at_first_keeps_nobody_waiting_and_is_heard_later() -> None:
    name = scripted(socket.gaierror(-2, "no such name"), socket.gaierror(-2, "no such name"), {"a:1"})
    assert await told(name, 2) == [set(), {"a:1"}]


async def test_a_lookup_does_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*_: object, **__: object) -> list[object]:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(may_answer.wait(), loop).result(timeout=3)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    answer = asyncio.create_task(told(DnsName("pool", 80, refresh_s=60), 1))
    await asked.wait()
    may_answer.set()
    assert await answer == [{"10.0.0.1:80"}]


@pytest.mark.parametrize(
    "entry",
    [
        "a",
        "a:",
        ":1",
        "a:b",
        "a:0",
        "a:65536",
        "a b:1",
        "::1:2",
        "http://a:1",
        "dns:a:1",
        "dns://8.8.8.8/a:1",
        "dns:///a",
        "other:///a:1",
        "kubernetes:///a",
        "kubernetes:///a:0",
        "kubernetes:///a:65536",
        "kubernetes:///a:Grpc",
        "kubernetes:///a.b:grpc",
        "kubernetes:///a/b/c:grpc",
        "kubernetes:///:grpc",
        "kubernetes://a:grpc",
    ],
)
def test_what_is_no_address_is_refused_at_start_in_words(entry: str) -> None:
    with pytest.raises(ValidationError, match="an address is host:port") as raised:
        OrchestratorSettings(verifiers=f"good:1,{entry}")
    assert repr(entry) in str(raised.value)
