"""What docs/security.md tells people to type does what it says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from draftpool.rpc.callers import for_services
from draftpool.rpc.channel import open_channel
from draftpool.settings import ServerSettings, TlsSettings
from orchestrator.api_keys import read_keys
from tests.unit.draftpool.rpc.servers import describe, echo

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def block(language: str) -> str:
    """The first one of that language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def settings_of(folder: Path, name: str, server_name: str | None = None) -> TlsSettings:
    return TlsSettings(
        tls_cert_file=folder / f"{name}.crt",
        tls_key_file=folder / f"{name}.key",
        tls_ca_file=folder / "ca.crt",
        tls_server_name=server_name,
    )


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    """The folder in which the first block was typed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    subprocess.run(["sh", "-e", "-c", block("sh")], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_the_five_lines_make_certificates_that_services_know_each_other_by(typed: Path) -> None:
    settings = ServerSettings(allowed_callers=("orchestrator.draftpool",))
    async with echo(for_services(settings_of(typed, "models"), settings)) as (address, _):
        caller = settings_of(typed, "orchestrator", "models.draftpool")
        async with open_channel(address, tls=caller.for_channels()) as channel:
            assert await describe(channel) == "echo"


def test_the_file_of_keys_is_one(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(block("toml"))
    entry = read_keys(tmp_path / "keys.toml").authenticate([("authorization", "Bearer test")]).entry
    assert None not in entry.model_dump().values()
