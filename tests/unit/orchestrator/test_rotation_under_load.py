"""Certificates are replaced while many generations run over mutual TLS: none of them notices."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from draftpool.rpc.callers import for_services
from draftpool.rpc.channel import open_channel
from draftpool.settings import ServerSettings
from draftpool.v1 import load_pb2, verifier_pb2
from orchestrator.health_watch import watch_health
from orchestrator.replicas import VerifierReplica
from tests.certificates import Authority, Secret, served_serial
from tests.unit.orchestrator.fake_services import LETTERS, FakeDrafter, FakeVerifier, fleet_of, until
from tests.unit.orchestrator.generating import generation, run

NUM_CLIENTS = 12
NUM_ROTATIONS = 4
OURS = Authority()


def dialler(secret: Secret) -> Callable:
    return partial(open_channel, tls=secret.settings.for_channels())


async def test_nothing_is_dropped(tmp_path: Path) -> None:
    orchestrator = Secret(tmp_path / "orchestrator", OURS.issue("orchestrator.example"))
    models = Secret(tmp_path / "models", OURS.issue())
    services = [FakeVerifier(), FakeVerifier(), FakeDrafter()]
    for service in services:
        service.security = for_services(models.settings, ServerSettings(allowed_callers=("orchestrator.example",)))
    num_done = 0
    is_over = False

    async with fleet_of(*services, dial=dialler(orchestrator)) as fleet:

        async def client() -> None:
            nonlocal num_done
            while not is_over:
                text, rounds = await run(generation(fleet, max_new_tokens=40))
                assert text == (LETTERS[1:] + LETTERS)[:40]
                assert sum(round_.num_verifiers_lost + round_.num_drafters_lost for round_ in rounds) == 0
                num_done += 1

        async with asyncio.TaskGroup() as clients:
            for _ in range(NUM_CLIENTS):
                clients.create_task(client())
            for _ in range(NUM_ROTATIONS):
                orchestrator.swap(OURS.issue("orchestrator.example"))
                newest = OURS.issue()
                models.swap(newest)
                target = num_done + NUM_CLIENTS
                await until(lambda target=target: num_done >= target, 30)
                for service in services:
                    shown = await asyncio.to_thread(served_serial, service.address, newest)
                    assert shown == newest.serial
            is_over = True
        failures = [replica.failures.num_failures for replica in (*fleet.verifiers, *fleet.drafters)]
        assert failures == [0, 0, 0]


async def test_a_watch_of_health_is_renewed_unnoticed_and_lets_the_old_connection_go(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "secret", OURS.issue())
    service = FakeVerifier()
    service.security = for_services(secret.settings, ServerSettings())
    await service.start()
    replica = VerifierReplica(service.address, dial=dialler(secret))
    watching = asyncio.create_task(watch_health(replica, max_pause_s=0.05, renew_s=0.3))
    try:
        await until(lambda: replica.may_be_visited, 10)
        replica.welcome(load_pb2.ReplicaLoad())
        era = replica.era
        secret.swap(OURS.issue())
        await replica.stub.Describe(verifier_pb2.DescribeVerifierRequest())
        assert replica.channel.num_channels == 2
        await until(lambda: replica.channel.num_channels == 1, 10)
        assert replica.era is era
    finally:
        watching.cancel()
        await replica.channel.close()
        await service.stop()
