"""`draftpool health`, as a probe runs it: a process, against a real server."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from draftpool.rpc.callers import for_services
from draftpool.rpc.security import ServerSecurity
from draftpool.settings import ServerSettings
from tests.certificates import Authority, Secret
from tests.unit.draftpool.rpc.servers import echo

OURS = Authority()


async def health(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and messages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "draftpool", "health", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    _, messages = await process.communicate()
    return process.returncode or 0, messages.decode()


async def test_it_is_0_while_the_service_serves() -> None:
    async with echo(ServerSecurity()) as (address, _):
        assert await health("--address", address) == (0, "")


async def test_it_is_1_with_a_reason_where_nothing_answers() -> None:
    code, message = await health("--address", "127.0.0.1:1")
    assert (code, message) == (1, "127.0.0.1:1: nothing answers\n")


async def test_it_shows_the_service_s_own_certificate(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "secret", OURS.issue())
    async with echo(for_services(secret.settings, ServerSettings())) as (address, _):
        assert await health("--address", address, **secret.environment) == (0, "")
        assert (await health("--address", address))[0] == 1


async def test_it_can_be_told_the_name_in_the_certificate(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "secret", OURS.issue_spiffe("spiffe://example/drafter"))
    named = Secret(tmp_path / "named", OURS.issue("drafter.example"))
    async with echo(for_services(named.settings, ServerSettings())) as (address, _):
        assert await health("--address", address, "--server-name", "drafter.example", **secret.environment) == (0, "")
        code, message = await health("--address", address, "--server-name", "other.example", **secret.environment)
        assert (code, "carries neither the name" in message) == (1, True)


@pytest.mark.parametrize("module", ["numpy", "pydantic_settings", "tokenizers", "rich.table", "google.protobuf"])
async def test_it_does_not_import_what_it_does_not_need(module: str) -> None:
    program = (
        "import sys; sys.argv = ['draftpool', 'health', '--address', '127.0.0.1:1']\n"
        "from draftpool.cli.app import main\n"
        "try: main()\n"
        f"finally: print({module!r} in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    assert output.decode().strip() == "False"
