"""A target without any process: asked for, started, served, and stopped when nobody wants it; real processes.

KEDA is played by a few lines that listen to its protocol and start and stop the verifier.
"""

import asyncio
from pathlib import Path

import grpc

from draftpool.cli.listening import free_port
from draftpool.cli.process import ServiceProcess, ServiceSpec
from draftpool.client import Client
from draftpool.keda import externalscaler_pb2, externalscaler_pb2_grpc
from tests.integration.probes import QUESTION

TARGET = "tiny-llama"


def service(role: str, folder: Path, listen: str, *options: str) -> ServiceProcess:
    return ServiceProcess(ServiceSpec(role, role, options, listen, 1, drain_grace_s=1.0), folder)


class SmallKeda:
    """Has one replica running while the scaler says that it is wanted, and none otherwise; cools down at once."""

    def __init__(self, scaler: str, verifier: ServiceProcess) -> None:
        self._scaler = scaler
        self._verifier = verifier
        self.is_at_zero = asyncio.Event()

    async def run(self) -> None:
        async with grpc.aio.insecure_channel(self._scaler) as channel:
            stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
            ref = externalscaler_pb2.ScaledObjectRef(name="verifier", scaler_metadata={"target": TARGET})
            async for reply in stub.StreamIsActive(ref, wait_for_ready=True):
                if reply.result:
                    self.is_at_zero.clear()
                    await self._verifier.start()
                else:
                    await self._verifier.stop(10) if self._verifier.is_alive else None
                    self.is_at_zero.set()


async def test_an_idle_target_starts_with_its_first_request_and_goes_after_its_last(tmp_path: Path) -> None:
    scaler, verifier_address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    verifier = service("verifier", tmp_path, verifier_address, "--model", TARGET, "--name", TARGET)
    orchestrator = service(
        "orchestrator",
        tmp_path,
        "127.0.0.1:0",
        *("--verifier", verifier_address, "--cold-target", TARGET, "--scaler-listen", scaler),
    )
    await orchestrator.start()
    keda = SmallKeda(scaler, verifier)
    playing = asyncio.create_task(keda.run())
    try:
        async with Client(orchestrator.address) as client, asyncio.timeout(200):
            for _ in range(2):
                await keda.is_at_zero.wait()
                [listed] = await client.list_models()
                assert (listed.name, listed.is_cold) == (TARGET, True)
                both = await asyncio.gather(
                    *(client.complete(TARGET, QUESTION, max_new_tokens=20, temperature=0) for _ in range(2))
                )
                assert both[0].token_ids == both[1].token_ids
                assert all(completion.finish.usage.cold_start_us > 0 for completion in both)
                await keda.is_at_zero.wait()
    finally:
        playing.cancel()
        await asyncio.gather(playing, orchestrator.stop(5), verifier.stop(5), return_exceptions=True)
