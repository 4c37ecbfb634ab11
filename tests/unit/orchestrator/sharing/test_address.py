"""What is understood as a Redis URL, and what is said of what is not."""

import pytest
from pydantic import ValidationError

from draftpool.errors import BadParameter
from orchestrator.settings import OrchestratorSettings
from orchestrator.sharing.address import RedisAddress, parse_redis_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", RedisAddress("server", hosts=(("host", 6379),))),
        ("redis://host:7000/3", RedisAddress("server", hosts=(("host", 7000),), db=3)),
        ("redis://:p%40ss@[::1]:7000", RedisAddress("server", hosts=(("::1", 7000),), password="p@ss")),
        ("rediss://me:x@host", RedisAddress("server", True, (("host", 6379),), username="me", password="x")),
        (
            "rediss://host?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            RedisAddress(
                "server", True, (("host", 6379),), options={"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": "false"}
            ),
        ),
        ("unix:///run/redis%20x/s?db=2", RedisAddress("socket", path="/run/redis x/s", db=2)),
        ("unix://:x@/run/s", RedisAddress("socket", path="/run/s", password="x")),
        (
            "redis+sentinel://:x@a,b:7000/mymaster/1",
            RedisAddress("sentinel", hosts=(("a", 26379), ("b", 7000)), service="mymaster", db=1, password="x"),
        ),
        ("rediss+cluster://a:1,b", RedisAddress("cluster", True, (("a", 1), ("b", 6379)))),
    ],
)
def test_the_forms_that_are_understood(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with one of redis://"),
        ("localhost:6379", "begins with one of"),
        ("http://:geheim@host", "begins with one of"),
        ("redis://", "needs host"),
        ("redis://:geheim@", "needs host"),
        ("redis://geheim@host", "has :password@ or user:password@"),
        ("redis://:geheim@host:geheim", "port in the Redis URL must be a number"),
        ("redis://host:0", "between 1 and 65535"),
        ("redis://host:70000", "between 1 and 65535"),
        ("redis://host:٣", "must be a number"),
        ("redis://::1", "IPv6 addresses in brackets"),
        ("redis://:geheim@[::1", "cannot be read"),
        ("redis://host/one", "database in the Redis URL must be a number"),
        ("redis://host/1/2", "path is too long"),
        ("redis://a,b", "redis:// has one host"),
        ("redis://:ge#heim@host", "%23"),
        ("redis://host?db=1", "no option 'db'; it takes none"),
        ("redis://host?ssl_ca_certs=/x", "no option 'ssl_ca_certs'"),
        ("rediss://host?password=geheim", "no option 'password'; it takes ssl_ca_certs"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs is required or none"),
        ("unix://run/s", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis+sentinel://host", "needs the service's name"),
        ("redis+cluster://host/1", "cluster has no databases"),
    ],
)
def test_what_is_not_understood_is_explained_without_being_quoted(url: str, reason: str) -> None:
    with pytest.raises(BadParameter) as refusal:
        parse_redis_url(url)
    assert reason in refusal.value.message
    assert "geheim" not in refusal.value.message
    if url:
        with pytest.raises(ValidationError) as error:
            OrchestratorSettings(redis_url=url)
        assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("rediss://me:geheim@[::1]:1/2", "rediss://me:***@[::1]:1/2"),
        ("unix://:geheim@/run/s", "unix://:***@/run/s"),
        ("redis+sentinel://:geheim@a,b/m?sentinel_password=geheim", "redis+sentinel://:***@a:26379,b:26379/m/0"),
        ("rediss+cluster://me:geheim@a", "rediss+cluster://me:***@a:6379"),
    ],
)
def test_an_address_can_be_shown(url: str, text: str) -> None:
    address = parse_redis_url(url)
    assert str(address) == text
    assert "geheim" not in f"{address!r} {OrchestratorSettings(redis_url=url)!r}"


def test_a_message_that_quotes_a_password_can_be_shown() -> None:
    address = parse_redis_url("redis+sentinel://:geheim@a/m?sentinel_password=heikel")
    assert address.redacted("unknown command AUTH geheim, AUTH heikel") == "unknown command AUTH ***, AUTH ***"


def test_without_a_url_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTPOOL_ORCHESTRATOR_REDIS_URL", "")
    assert OrchestratorSettings().redis_url is None
