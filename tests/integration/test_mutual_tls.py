"""All services with certificates and API keys: real processes, the embedded models, certificates replaced meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
import pytest_asyncio
from cryptography import x509

from draftpool.cli.plan import StackPlan
from draftpool.cli.process import is_serving
from draftpool.cli.stack import Stack
from draftpool.client import Client
from draftpool.errors import Unauthenticated
from draftpool.rpc.channel import open_channel
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc
from orchestrator.api_keys import hash_of, new_key
from tests.certificates import Authority, Secret, served_serial
from tests.integration.probes import QUESTION

OURS = Authority()
KEY = new_key()
NUM_CLIENTS = 3
NUM_ROTATIONS = 3


@dataclass(frozen=True)
class Secured:
    """A running draftpool, its secret, and where its logs are."""

    stack: Stack
    secret: Secret
    logs: Path


@pytest_asyncio.fixture
async def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Secured]:
    secret = Secret(tmp_path / "tls", OURS.issue())
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{hash_of(KEY)}"\n')
    environment = secret.environment | {"DRAFTPOOL_ORCHESTRATOR_API_KEYS_FILE": str(keys)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plan = StackPlan(targets=("tiny-llama",), dtype="float32", drain_grace_s=1, has_metrics=True)
    async with Stack(plan, log_dir=tmp_path / "logs") as stack:
        yield Secured(stack, secret, tmp_path / "logs")


async def test_a_generation_goes_over_mutual_tls_while_certificates_are_replaced(secured: Secured) -> None:
    stack, secret = secured.stack, secured.secret
    async with Client(stack.orchestrator, api_key=KEY) as client:

        async def answer() -> str:
            completion = await client.complete("tiny-llama", QUESTION, seed=7, max_new_tokens=150, ignore_eos=True)
            return completion.text

        expected = await answer()
        answers = [asyncio.create_task(answer()) for _ in range(NUM_CLIENTS)]
        for _ in range(NUM_ROTATIONS):
            newest = OURS.issue()
            secret.swap(newest)
            for address in (stack.orchestrator, *stack.drafters, *stack.verifiers["tiny-llama"]):
                assert await asyncio.to_thread(served_serial, address, newest) == newest.serial
            answers.append(asyncio.create_task(answer()))
        assert set(await asyncio.gather(*answers)) == {expected}

    async with Client(stack.orchestrator) as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.list_models()
    await _expect_no_plain_text(stack)
    _expect_health(stack)
    _expect_ends_told(secured)
    _expect_silence(secured)


async def _expect_no_plain_text(stack: Stack) -> None:
    for address in (stack.orchestrator, *stack.drafters, *stack.verifiers["tiny-llama"]):
        async with open_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await drafter_pb2_grpc.DrafterStub(channel).Describe(drafter_pb2.DescribeDrafterRequest(), timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await is_serving(address)


def _expect_health(stack: Stack) -> None:
    command = [sys.executable, "-m", "draftpool", "health", "--address"]
    for address in (stack.orchestrator, *stack.drafters):
        assert subprocess.run([*command, address], check=False).returncode == 0
        plain = {name: value for name, value in os.environ.items() if not name.startswith("DRAFTPOOL_TLS")}
        assert subprocess.run([*command, address], check=False, env=plain, stderr=subprocess.DEVNULL).returncode == 1


def _expect_ends_told(secured: Secured) -> None:
    file = secured.secret.folder / "tls.crt"
    end = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
    metric = f'draftpool_tls_certificate_expiration_timestamp_seconds{{file="{file}"}}'
    for address in secured.stack.metrics.values():
        page = urlopen(f"http://{address}/metrics", timeout=30).read().decode()
        [told] = [line.removeprefix(metric) for line in page.splitlines() if line.startswith(metric)]
        assert float(told) == end


def _expect_silence(secured: Secured) -> None:
    said = "".join(path.read_text() for path in secured.logs.glob("*.log"))
    assert "read again" in said
    private = [line for key in secured.secret.folder.glob("*/tls.key") for line in key.read_text().splitlines()[1:-1]]
    for hidden in (KEY, hash_of(KEY), *private):
        assert hidden not in said
