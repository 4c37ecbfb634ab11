"""How commands reach an orchestrator that wants a certificate and a key: processes against real mutual TLS."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from draftpool.settings import ServerSettings
from orchestrator.api_keys import hash_of, new_key
from orchestrator.security import public_security
from orchestrator.settings import OrchestratorSettings
from tests.certificates import Authority, Secret
from tests.unit.orchestrator.fake_services import FakeVerifier
from tests.unit.orchestrator.serving import orchestrator_of

KEY = new_key()
NAME = "draftpool.example"


@dataclass(frozen=True)
class Guarded:
    """An orchestrator whose certificate carries NAME, and a client's files."""

    address: str
    tls: tuple[str, ...]
    key_file: Path


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    authority = Authority()
    server = Secret(tmp_path / "server", authority.issue(NAME))
    client = tmp_path / "client"
    Secret(client, authority.issue())
    (tmp_path / "keys.toml").write_text(f'[alice]\nsha256 = "{hash_of(KEY)}"\n')
    (tmp_path / "key").write_text(f"{KEY}\n")
    settings = OrchestratorSettings(api_keys_file=tmp_path / "keys.toml", require_client_certificates=True)
    security = public_security(settings, ServerSettings(), server.settings)
    options = [f"--tls-{kind}-file={client / name}" for kind, name in CLIENT_FILES.items()]
    async with orchestrator_of(FakeVerifier(), security=security) as address:
        yield Guarded(address, (*options, f"--tls-server-name={NAME}"), tmp_path / "key")


CLIENT_FILES = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}


async def draftpool(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and messages of a command that has nothing of ours in its environment but this."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRAFTPOOL_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "draftpool", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, **environment},
    )
    output, messages = await process.communicate()
    return process.returncode or 0, output.decode(), messages.decode()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("models",), "alphabet"),
        (("generate", "a", "--temperature", "0", "-n", "4"), "bcde"),
        (("bandit",), "nothing yet"),
    ],
)
async def test_every_command_gets_in_by_options(guarded: Guarded, command: tuple[str, ...], expected: str) -> None:
    key = f"--api-key-file={guarded.key_file}"
    code, output, messages = await draftpool(*command, "--address", guarded.address, *guarded.tls, key)
    assert (code, messages) == (0, "")
    assert expected in output


async def test_every_option_can_be_a_variable(guarded: Guarded) -> None:
    variables = {
        "DRAFTPOOL_" + name.removeprefix("--").replace("-", "_").upper(): value
        for name, value in (option.split("=") for option in guarded.tls)
    }
    variables |= {"DRAFTPOOL_API_KEY": KEY, "DRAFTPOOL_ADDRESS": guarded.address}
    code, output, messages = await draftpool("models", **variables)
    assert (code, messages) == (0, "")
    assert "alphabet" in output


async def test_an_option_beats_the_variables(guarded: Guarded) -> None:
    options = ("--address", guarded.address, *guarded.tls, f"--api-key-file={guarded.key_file}")
    variables = {"DRAFTPOOL_TLS_SERVER_NAME": "other.example", "DRAFTPOOL_API_KEY": new_key()}
    assert (await draftpool("models", *options, **variables))[0] == 0


async def test_who_lacks_something_is_told_what_in_one_sentence(guarded: Guarded, tmp_path: Path) -> None:
    reach = ("models", "--address", guarded.address)
    code, output, messages = await draftpool(*reach, *guarded.tls)
    assert (code, output) == (1, "")
    assert messages.startswith("Error: ")
    assert "API key" in messages
    code, _, messages = await draftpool(*reach)
    assert code == 1
    assert "it may want TLS" in messages
    (tmp_path / "other.crt").write_bytes(Authority().pem)
    code, _, messages = await draftpool(*reach, f"--tls-ca-file={tmp_path / 'other.crt'}")
    assert code == 1
    assert "its certificate is not believed" in messages
    assert messages.count("\n") == 1
