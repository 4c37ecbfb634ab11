"""Two processes that hold half of a model each: real processes, real gloo, real gRPC."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from transformers import AutoModelForCausalLM

from draftpool import wire
from draftpool.embedded import embedded_path
from draftpool.errors import Unavailable
from draftpool.rpc.status import from_rpc_error
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from draftpool.v1 import verifier_pb2, verifier_pb2_grpc
from orchestrator.acceptance import accept_path
from verifier_service.replica import VerifierReplica
from verifier_service.server import verifier_service
from verifier_service.settings import VerifierSettings

NUM_TOKENS = 20
TEXTS = (list(range(40, 47)), list(range(300, 325)), [77])
SAMPLINGS = (SamplingParams(temperature=0), SamplingParams(temperature=0.8, top_p=0.9, seed=11))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of an embedded model: a sum over two processes takes a CPU longer than a layer does."""
    folder = tmp_path_factory.mktemp("models") / "short-llama"
    whole = embedded_path("tiny-llama")
    AutoModelForCausalLM.from_pretrained(whole, num_hidden_layers=2).save_pretrained(folder)
    shutil.copy(whole / "tokenizer.json", folder)
    return folder


@dataclass(frozen=True)
class Started:
    """A command that serves a verifier."""

    process: subprocess.Popen[bytes]
    address_file: Path
    log: Path

    async def address(self) -> str:
        async with asyncio.timeout(60):
            while not self.address_file.exists():
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
        return self.address_file.read_text()


@contextmanager
def serving(model: Path, folder: Path, *launcher: str, **environment: str) -> Iterator[Started]:
    """`draftpool serve verifier`, started by `launcher`."""
    folder.mkdir()
    started_log = folder / "log"
    options = ["--model", str(model), "--dtype", "float32", "--kv-tokens", "2048", "--drain-grace-s", "2"]
    command = [sys.executable, *launcher, "-m", "draftpool", "serve", "verifier", *options]
    with started_log.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--address-file", str(folder / "address")],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        yield Started(process, folder / "address", started_log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def two_ranks(model: Path, folder: Path) -> Iterator[list[Started]]:
    """Leader and follower as torchrun would start them, but with nobody who would end one when the other is gone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                serving(
                    model,
                    folder / str(rank),
                    RANK=str(rank),
                    LOCAL_RANK=str(rank),
                    WORLD_SIZE="2",
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=str(port),
                )
            )
            for rank in range(2)
        ]


@asynccontextmanager
async def alone(model: Path) -> AsyncIterator[verifier_pb2_grpc.VerifierStub]:
    """One process, this one, with the whole model."""
    with closing(VerifierReplica(VerifierSettings(model=str(model), dtype="float32", kv_tokens=2048))) as replica:
        server = grpc.aio.server()
        verifier_service(replica).register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield verifier_pb2_grpc.VerifierStub(channel)
        await server.stop(None)


def opening(text: Sequence[int], params: SamplingParams) -> verifier_pb2.VerifyRequest:
    return verifier_pb2.VerifyRequest(
        session=verifier_pb2.VerifySession(sampling=wire.sampling_to_wire(params)), committed_token_ids=text
    )


async def plainly(stub: verifier_pb2_grpc.VerifierStub, text: Sequence[int], params: SamplingParams) -> list[int]:
    """The text's continuation, one token a pass."""
    call = stub.Verify()
    await call.write(opening(text, params))
    answer = [(await call.read()).chosen_token_ids[0]]
    while len(answer) < NUM_TOKENS:
        await call.write(verifier_pb2.VerifyRequest(committed_token_ids=answer[-1:]))
        answer.append((await call.read()).chosen_token_ids[0])
    call.cancel()
    return answer


def tree_around(tokens: Sequence[int]) -> DraftTree:
    """The tokens as one path of a tree that has drafted the second of them wrong too."""
    if len(tokens) < 2:
        return DraftTree(tuple(tokens), (-1,) * len(tokens))
    wrong = (tokens[1] + 1) % 1000
    return DraftTree((tokens[0], wrong, *tokens[1:]), (-1, 0, 0, *range(2, len(tokens))))


async def with_trees(
    stub: verifier_pb2_grpc.VerifierStub, text: Sequence[int], params: SamplingParams, expected: Sequence[int]
) -> list[int]:
    """The same, by trees that draft none, one, two or three of the tokens that are expected next."""
    request = opening(text, params)
    answer: list[int] = []
    call = stub.Verify()
    while len(answer) < NUM_TOKENS:
        num_drafted = len(answer) % 4
        tree = tree_around(expected[len(answer) : len(answer) + num_drafted])
        request.tree.CopyFrom(wire.tree_to_wire(tree))
        await call.write(request)
        committed = accept_path(tree, list((await call.read()).chosen_token_ids)).token_ids
        answer += committed
        request = verifier_pb2.VerifyRequest(committed_token_ids=committed)
    call.cancel()
    return answer[:NUM_TOKENS]


async def test_two_ranks_choose_the_tokens_of_one_and_end_on_sigterm(model: Path, tmp_path: Path) -> None:
    sessions = [(text, params) for text in TEXTS for params in SAMPLINGS]
    async with alone(model) as stub:
        expected = await asyncio.gather(*(plainly(stub, *session) for session in sessions))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    with serving(model, tmp_path / "ranks", *launcher) as ranks:
        async with grpc.aio.insecure_channel(await ranks.address()) as channel:
            stub = verifier_pb2_grpc.VerifierStub(channel)
            answers = await asyncio.gather(
                *(with_trees(stub, *session, plain) for session, plain in zip(sessions, expected, strict=True))
            )
            assert answers == expected
        ranks.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(ranks.process.wait, 20)
        log = ranks.log.read_text()
        assert "rank 0 of 2 leads" in log
        assert "rank 1 of 2 follows" in log
        # What torchrun says of a rank that it had to kill, and what a rank says of one that was gone.
        assert "forcefully exiting" not in log
        assert "Error:" not in log


async def test_a_leader_whose_follower_died_refuses_and_ends(model: Path, tmp_path: Path) -> None:
    with two_ranks(model, tmp_path) as (leader, follower):
        async with grpc.aio.insecure_channel(await leader.address()) as channel:
            stub = verifier_pb2_grpc.VerifierStub(channel)
            await plainly(stub, [5, 6], SAMPLINGS[0])
            follower.process.kill()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await plainly(stub, [5, 6], SAMPLINGS[0])
            assert isinstance(from_rpc_error(raised.value), Unavailable)
        assert await asyncio.to_thread(leader.process.wait, 20) == 1
        assert "ranks no longer compute together" in leader.log.read_text().splitlines()[-1]


async def test_a_follower_whose_leader_died_ends(model: Path, tmp_path: Path) -> None:
    with two_ranks(model, tmp_path) as (leader, follower):
        await leader.address()
        leader.process.kill()
        assert await asyncio.to_thread(follower.process.wait, 20) == 1
        assert "rank 1 has lost rank 0" in follower.log.read_text().splitlines()[-1]
