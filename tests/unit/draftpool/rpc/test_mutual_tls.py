"""Who gets through the handshake, and whom callers believe: real gRPC, certificates good and bad."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.errors import NotAllowed
from draftpool.rpc.callers import for_services
from draftpool.rpc.channel import open_channel
from draftpool.rpc.security import ServerSecurity
from draftpool.rpc.status import from_rpc_error
from draftpool.rpc.unreachable import why_unreachable
from draftpool.settings import ServerSettings, TlsSettings
from tests.certificates import Authority, Pem, Secret
from tests.unit.draftpool.rpc.servers import describe, echo

OURS = Authority()
THEIRS = Authority()

Mount = Callable[[Pem], TlsSettings]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """Settings that name files with what is given."""
    return lambda pem: Secret(tmp_path / str(pem.serial), pem).settings


def security_of(settings: TlsSettings, *allowed_callers: str) -> ServerSecurity:
    return for_services(settings, ServerSettings(allowed_callers=allowed_callers))


async def refusal(address: str, tls: TlsSettings | None) -> str:
    """Why a call with these settings does not come about; it must be UNAVAILABLE."""
    async with open_channel(address, tls=tls and tls.for_channels()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await describe(channel)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    return why_unreachable(refused.value.details() or "")


async def test_services_of_one_authority_know_each_other_by_name(mount: Mount) -> None:
    caller = mount(OURS.issue("orchestrator.example"))
    async with echo(security_of(mount(OURS.issue()))) as (address, servicer):
        async with open_channel(address, tls=caller.for_channels()) as channel:
            assert await describe(channel) == "echo"
        assert "orchestrator.example" in servicer.names


async def test_bad_callers_are_refused_at_the_handshake(mount: Mount) -> None:
    """None, one of another authority, one that has expired, and plain text: none reaches the service."""
    nobody = TlsSettings(tls_ca_file=mount(OURS.issue()).tls_ca_file)
    stranger = mount(THEIRS.issue(believes=OURS.pem))
    late = mount(OURS.issue(is_expired=True))
    async with echo(security_of(mount(OURS.issue()))) as (address, servicer):
        for caller in (nobody, stranger, late, None):
            assert await refusal(address, caller) == (
                "it hangs up at once; it may want TLS, or another certificate than this one"
            )
        assert servicer.certificates == []


async def test_bad_servers_are_refused_by_callers(mount: Mount) -> None:
    """One of another authority, one that has expired, one with another name, and one without TLS."""
    caller = mount(OURS.issue())
    async with echo(security_of(mount(THEIRS.issue(believes=OURS.pem)))) as (address, _):
        assert (
            await refusal(address, caller) == "its certificate is not believed, unable to get local issuer certificate"
        )
    async with echo(security_of(mount(OURS.issue(is_expired=True)))) as (address, _):
        assert "certificate has expired" in await refusal(address, caller)
    async with echo(security_of(mount(OURS.issue_spiffe("spiffe://example/drafter")))) as (address, _):
        assert "neither the name of its address" in await refusal(address, caller)
    async with echo(ServerSecurity()) as (address, _):
        assert await refusal(address, caller) == "it does not speak TLS"


async def test_replicas_that_are_found_by_ip_address_are_known_by_a_name_they_share(mount: Mount) -> None:
    caller = mount(OURS.issue())
    async with echo(security_of(mount(OURS.issue("models.example")))) as (address, _):
        named = caller.model_copy(update={"tls_server_name": "models.example"})
        async with open_channel(address, tls=named.for_channels()) as channel:
            assert await describe(channel) == "echo"
        wrong = caller.model_copy(update={"tls_server_name": "others.example"})
        assert "tls_server_name" in await refusal(address, wrong)


async def test_of_those_with_certificates_only_the_allowed_names_may_call(mount: Mount) -> None:
    security = security_of(mount(OURS.issue()), "orchestrator.example", "spiffe://example/orchestrator")
    by_dns = mount(OURS.issue("orchestrator.example"))
    by_uri = mount(OURS.issue_spiffe("spiffe://example/orchestrator"))
    drafter = mount(OURS.issue("drafter.example"))
    async with echo(security) as (address, servicer):
        for caller in (by_dns, by_uri):
            async with open_channel(address, tls=caller.for_channels()) as channel:
                assert await describe(channel) == "echo"
        assert len(servicer.certificates) == 2
        async with open_channel(address, tls=drafter.for_channels()) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await describe(channel)
            error = from_rpc_error(refused.value)
            assert type(error) is NotAllowed
            assert error.message == "this service is not for 127.0.0.1, drafter.example"
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert len(servicer.certificates) == 2
