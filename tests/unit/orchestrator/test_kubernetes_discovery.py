"""Pools from EndpointSlices, against an API server that speaks the list and watch protocol over real HTTP."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from orchestrator import slice_api
from tests.unit.orchestrator.fake_api_server import FakeApiServer, Json, endpoint, endpoint_slice
from tests.unit.orchestrator.following import api_server, followed, service, until, write_kubeconfig

PORTS = {"grpc": 8000}
ONE, TWO = "10.0.0.1:8000", "10.0.0.2:8000"


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with api_server() as started:
        yield started


def pod_slice(name: str, number: int, **conditions: bool) -> Json:
    return endpoint_slice(name, endpoint(f"10.0.0.{number}", pod=f"pod-{number}", **conditions), ports=PORTS)


def kinds(server: FakeApiServer) -> list[str]:
    return ["watch" if "watch" in query else "list" for query in server.queries]


async def test_slices_that_come_and_go_are_told(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
        server.delete("a")
        await heard.until(TWO)
    assert kinds(server) == ["list", "watch"]


async def test_a_pod_that_is_not_ready_or_terminates_leaves_at_once_and_may_come_back(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1, ready=True))
    async with followed() as heard:
        for able, unable in [
            ({"ready": True}, {"ready": False}),
            ({}, {"ready": False, "serving": True, "terminating": True}),
        ]:
            server.put(pod_slice("a", 1, **able))
            await heard.until(ONE)
            server.put(pod_slice("a", 1, **unable))
            await heard.until()


async def test_an_empty_set_is_believed_at_first_and_later(server: FakeApiServer) -> None:
    async with followed() as heard:
        await heard.until()
        server.put(pod_slice("a", 1))
        await heard.until(ONE)
        server.put(endpoint_slice("a", ports=PORTS))
        await heard.until()


async def test_only_the_slices_of_the_service_and_the_namespace_count(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    server.put(endpoint_slice("other", endpoint("10.0.0.9"), service="other", ports=PORTS))
    async with followed() as here, followed(service(namespace="elsewhere")) as elsewhere:
        await here.until(ONE)
        await elsewhere.until()
        server.put(endpoint_slice("a", endpoint("10.0.0.1"), service="other", ports=PORTS))  # its label changes
        await here.until()
        assert elsewhere.sets == [frozenset()]


async def test_the_same_set_is_not_told_again(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        server.put(pod_slice("b", 1, ready=True))
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
        assert heard.sets == [{ONE}, {ONE, TWO}]


@pytest.mark.parametrize("in_line", [False, True])
async def test_a_watch_that_breaks_off_goes_on_where_it_was(server: FakeApiServer, in_line: bool) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
        reached = server.version
        await until(lambda: server.num_watches)
        server.cut(in_line=in_line)
        server.delete("a")
        await heard.until(TWO)
        assert heard.sets == [{ONE}, {ONE, TWO}, {TWO}]
    assert kinds(server) == ["list", "watch", "watch"]
    assert server.queries[-1]["resourceVersion"] == str(reached)


async def test_a_bookmark_saves_the_list_after_a_compaction(server: FakeApiServer) -> None:
    server.bookmark_s = 0.02
    async with followed() as heard:
        await heard.until()
        server.put(pod_slice("a", 1))
        await heard.until(ONE)
        server.pass_time()
        reached, num_bookmarks = server.version, server.num_bookmarks
        await until(lambda: server.num_bookmarks > num_bookmarks + 1)
        server.compact()
        server.cut()
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
    assert kinds(server) == ["list", "watch", "watch"]
    assert server.queries[-1]["resourceVersion"] == str(reached)


@pytest.mark.parametrize("as_status", [False, True])
async def test_a_version_that_is_gone_means_a_new_list(server: FakeApiServer, as_status: bool) -> None:
    server.gone_as_status = as_status
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        await until(lambda: server.num_watches)
        server.hold()
        server.cut()
        server.delete("a")
        server.put(pod_slice("b", 2))
        server.compact()
        server.go_on()
        await heard.until(TWO)
    assert kinds(server)[:4] == ["list", "watch", "watch", "list"]


async def test_a_version_from_the_future_of_a_restored_server_means_a_new_list(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        await until(lambda: server.num_watches)
        server.version = 50
        server.cut()
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again_and_takes_nobody_away(server: FakeApiServer, status: int) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        await until(lambda: server.num_watches)
        server.script += [(status, {})] * 3
        server.cut()
        await until(lambda: not server.script)
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
        assert heard.sets == [{ONE}, {ONE, TWO}]
    assert kinds(server) == ["list", *["watch"] * 5]


async def test_a_server_that_says_when_to_come_again_is_left_in_peace_until_then(server: FakeApiServer) -> None:
    server.script.append((429, {"Retry-After": "1"}))
    async with followed() as heard:
        await until(lambda: server.queries)
        asked_s = time.monotonic()
        await heard.until()
        assert time.monotonic() - asked_s >= 1


async def test_a_server_that_is_away_takes_nobody_away(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        await server.stop()
        server.put(pod_slice("b", 2))
        await asyncio.sleep(0.3)  # it is tried meanwhile, in vain
        assert heard.sets == [{ONE}]
        await server.start()
        await heard.until(ONE, TWO)


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_what_rbac_does_not_allow_is_said_once_and_tried_again(
    server: FakeApiServer, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.allowed.discard(verb)
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await until(lambda: kinds(server).count(verb) >= 3)
        [said] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert f"RBAC does not allow to {verb} the EndpointSlices of namespace pools" in said.getMessage()
        assert f'cannot {verb} resource "endpointslices" in API group "discovery.k8s.io"' in said.getMessage()
        server.allowed.add(verb)
        await heard.until(ONE)


async def test_who_may_list_but_not_watch_is_served_by_lists(server: FakeApiServer) -> None:
    server.allowed.discard("watch")
    async with followed() as heard:
        await heard.until()
        server.put(pod_slice("a", 1))
        await heard.until(ONE)


async def test_a_token_that_is_renewed_on_disk_is_shown_after_a_refusal(server: FakeApiServer) -> None:
    server.token = "renewed"
    async with followed() as heard:
        await until(lambda: len(server.queries) >= 2)
        assert heard.sets == []
        write_kubeconfig(Path(os.environ["KUBECONFIG"]), server.url, token="renewed")
        await heard.until()


async def test_a_watch_that_dies_without_a_word_is_noticed(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_api, "_GRACE_S", 0.1)
    async with followed(service(watch_s=1.0)) as heard:
        await heard.until()
        await until(lambda: server.num_watches)
        server.is_silent = True
        server.put(pod_slice("a", 1))
        await until(lambda: kinds(server).count("watch") >= 2)
        server.is_silent = False
        await heard.until(ONE)
    assert kinds(server).count("list") == 1


async def test_a_watch_is_renewed_in_time_without_a_list(server: FakeApiServer) -> None:
    async with followed(service(watch_s=1.0)) as heard:
        await until(lambda: kinds(server).count("watch") >= 3)
        server.put(pod_slice("a", 1))
        await heard.until(ONE)
    assert {query["timeoutSeconds"] for query in server.queries if "watch" in query} == {"1"}
    assert kinds(server).count("list") == 1


async def test_watches_that_end_at_once_are_asked_for_less_and_less_often(server: FakeApiServer) -> None:
    server.is_hasty = True
    started_s = time.monotonic()
    async with followed() as heard:
        await until(lambda: kinds(server).count("watch") >= 4)
        assert time.monotonic() - started_s >= 0.1 + 0.2 + 0.4
        server.is_hasty = False
        server.put(pod_slice("a", 1))
        await heard.until(ONE)


async def test_breaks_with_something_heard_between_them_are_nobodys_concern(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with followed() as heard:
        for number in (1, 2, 3):
            server.put(pod_slice("a", number))
            await heard.until(f"10.0.0.{number}:8000")
            await until(lambda: server.num_watches)
            server.cut()
            server.put(pod_slice("a", number + 10))
            await heard.until(f"10.0.0.{number + 10}:8000")
    assert caplog.messages == []


async def test_events_that_trickle_in_are_put_together(server: FakeApiServer) -> None:
    server.is_slow = True
    async with followed() as heard:
        await heard.until()
        server.put(pod_slice("a", 1))
        await heard.until(ONE)
    assert kinds(server) == ["list", "watch"]


async def test_a_port_that_the_service_does_not_have_is_said(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.put(pod_slice("a", 1))
    async with followed(service(port="http")) as heard:
        await heard.until()
        await until(
            lambda: "kubernetes:///verifier:http: the Service has no port of that name; it has 'grpc'" in caplog.text
        )


async def test_without_a_pod_and_without_a_kubeconfig_it_is_said_and_tried_again(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with followed() as heard:
        await until(lambda: "no way to the API server: this is no pod" in caplog.text)
        write_kubeconfig(tmp_path / "config", server.url)
        await heard.until()


async def test_a_pod_shows_its_service_account_over_tls_and_looks_in_its_own_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("mounted")
    (tmp_path / "namespace").write_text("pools")
    server = FakeApiServer(tls)
    server.token = "mounted"
    await server.start()
    monkeypatch.setattr(slice_api, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    server.put(pod_slice("a", 1))
    async with followed() as heard:
        await heard.until(ONE)
        (tmp_path / "token").write_text("rotated")
        server.token = "rotated"
        await until(lambda: server.num_watches)
        server.cut()
        server.put(pod_slice("b", 2))
        await heard.until(ONE, TWO)
    await server.stop()


async def test_cancelling_closes_the_connection(server: FakeApiServer) -> None:
    async with followed():
        await until(lambda: server.num_watches)
    await until(lambda: not server.num_watches)


async def test_a_proxy_that_answers_in_its_own_words_is_a_busy_server(server: FakeApiServer) -> None:
    server.put(pod_slice("a", 1))
    server.script.append((502, "<html>Bad Gateway</html>"))
    async with followed() as heard:
        await heard.until(ONE)
