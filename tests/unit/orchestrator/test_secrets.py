"""A whole orchestrator, with everything that is secret and everything that can go wrong: none of it is said."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from draftpool.client import Client
from draftpool.errors import DraftpoolError
from draftpool.settings import ServerSettings, TlsSettings
from orchestrator.api_keys import hash_of, new_key
from orchestrator.server import serve
from orchestrator.settings import OrchestratorSettings
from tests.certificates import Authority, Pem, Secret

KEY, WRONG_KEY = new_key(), new_key()
PASSWORD = "sehr-geheim"
OURS = Authority()


@asynccontextmanager
async def orchestrator(settings: OrchestratorSettings, tls: TlsSettings) -> AsyncIterator[str]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(settings, ServerSettings(drain_grace_s=0), tls, on_ready=ready.set_result))
    try:
        yield await ready
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_no_log_line_and_no_error_holds_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = OURS.issue()
    secret = Secret(tmp_path / "tls", issued)
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{hash_of(KEY)}"\n')
    settings = OrchestratorSettings(
        api_keys_file=keys,
        redis_url=f"redis://user:{PASSWORD}@127.0.0.1:1",
        verifiers=("127.0.0.1:1",),
    )
    told = [repr(settings), str(settings), repr(secret.settings)]
    client_tls = TlsSettings(tls_ca_file=secret.settings.tls_ca_file)

    async def ask(address: str, key: str | None) -> None:
        async with Client(address, api_key=key, tls=client_tls) as client:
            told.append(repr(vars(client)))
            try:
                await client.complete("nonsense", "hello")
            except DraftpoolError as error:
                told.append(repr(error) + error.message)

    async with orchestrator(settings, secret.settings) as address:
        for key in (KEY, WRONG_KEY, None):
            await ask(address, key)
        secret.swap(Pem(issued.cert, b"-----BEGIN PRIVATE KEY-----\ngeheim\n-----END PRIVATE KEY-----\n", issued.ca))
        keys.write_text(f'[alice]\nsha256 = "{hash_of(KEY)}"\npassword = "{PASSWORD}"\n')
        await ask(address, KEY)

    said = caplog.text + "\n".join(told)
    assert "last good contents" in said
    assert "no target is called 'nonsense'" in said
    assert "this API key is not known here" in said
    key_lines = issued.key.decode().splitlines()[1:-1]
    for hidden in (KEY, WRONG_KEY, PASSWORD, hash_of(KEY), "geheim", *key_lines):
        assert hidden not in said
