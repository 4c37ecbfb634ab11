"""Thousands of random requests at one verifier with far too little memory: nothing leaks, nobody's tokens change."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import torch
from prometheus_client import REGISTRY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from draftpool import wire
from draftpool.errors import (
    BadParameter,
    BrokenProtocol,
    ContextTooLong,
    DeadlineExceeded,
    DraftpoolError,
    EmptyContext,
    MalformedTree,
    NoCapacity,
    TokenOutOfVocabulary,
)
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.status import from_rpc_error
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, ROOT, DraftTree
from draftpool.v1 import tree_pb2, verifier_pb2, verifier_pb2_grpc
from verifier_service.choosing import Chooser
from verifier_service.engine import TargetEngine
from verifier_service.job import VerifyJob
from verifier_service.readiness import make_ready
from verifier_service.replica import VerifierReplica
from verifier_service.server import verifier_service
from verifier_service.settings import VerifierSettings

NUM_REQUESTS = 2000
NUM_AT_ONCE = 24
NUM_CHECKED = 100
"""Survivors whose tokens are compared with those of an undisturbed run."""

VOCAB_SIZE = 257
MAX_TREE_NODES = 12
MAX_SESSIONS = 10
KV_TOKENS = 384
"""About five sessions of the largest size, or a third of what as many sessions as may be admitted would like."""


@dataclass(frozen=True)
class Round:
    """One message of a stream: nothing in it depends on a reply, so any run of it must choose alike."""

    committed: tuple[int, ...]
    tree: DraftTree


@dataclass(frozen=True)
class Plan:
    """One request, all of it drawn from its number.

    Attributes:
        fate: what becomes of it: served, cancelled, hurried (a deadline), or the name of a flaw.
        patience_s: until it is cancelled, or its deadline.
        pauses_s: before each message.
    """

    number: int
    params: SamplingParams
    rounds: tuple[Round, ...]
    fate: str
    patience_s: float
    pauses_s: tuple[float, ...]

    def messages(self) -> list[verifier_pb2.VerifyRequest]:
        messages = [
            verifier_pb2.VerifyRequest(committed_token_ids=round_.committed, tree=wire.tree_to_wire(round_.tree))
            for round_ in self.rounds
        ]
        messages[0].session.sampling.CopyFrom(wire.sampling_to_wire(self.params))
        if self.fate in FLAWS:
            FLAWS[self.fate].spoil(messages)
        return messages


@dataclass(frozen=True)
class Outcome:
    """What a client saw: the tokens chosen in each round, and how its stream ended if not well."""

    plan: Plan
    chosen: tuple[tuple[int, ...], ...]
    error: type[DraftpoolError] | None
    is_crowded: bool
    """Whether more requests than can be admitted were waiting at any reply."""

    @property
    def is_whole(self) -> bool:
        """Whether every round that was meant to be answered was."""
        return self.plan.fate not in FLAWS and len(self.chosen) == len(self.plan.rounds)


class Flaw:
    """A way to spoil a request, and the error that it deserves."""

    def __init__(self, error: type[DraftpoolError]) -> None:
        self.error = error

    def spoil(self, messages: list[verifier_pb2.VerifyRequest]) -> None:
        last = messages[-1]
        if self.error is BrokenProtocol:
            messages.append(messages[0])
        elif self.error is EmptyContext:
            del messages[0].committed_token_ids[:]
        elif self.error is BadParameter:
            messages.append(verifier_pb2.VerifyRequest())
        elif self.error is TokenOutOfVocabulary:
            last.committed_token_ids.append(VOCAB_SIZE)
        elif self.error is MalformedTree:
            last.tree.CopyFrom(tree_pb2.DraftTree(token_ids=[1, 2], parents=[ROOT, 1]))
        else:
            last.committed_token_ids.extend([1] * 200)


FLAWS = {
    error.__name__: Flaw(error)
    for error in (BrokenProtocol, EmptyContext, BadParameter, TokenOutOfVocabulary, MalformedTree, ContextTooLong)
}


def random_plan(number: int) -> Plan:
    draw = random.Random(number)
    length = draw.randint(1, 90)
    beginning = random.Random(draw.randrange(4)).choices(range(256), k=draw.randint(0, length))
    prompt = [*beginning, *draw.choices(range(256), k=length - len(beginning))]
    rounds = tuple(random_rounds(draw, prompt))
    warm = SamplingParams(temperature=draw.choice([0.5, 1.0]), top_p=draw.choice([0.8, 1.0]), seed=number)
    fates = ["served", "cancelled", "hurried", *FLAWS]
    return Plan(
        number=number,
        params=SamplingParams(temperature=0) if draw.random() < 0.5 else warm,
        rounds=rounds,
        fate=draw.choices(fates, weights=[70, 15, 10, *[1] * len(FLAWS)])[0],
        patience_s=draw.uniform(0.001, 0.2),
        pauses_s=tuple(draw.uniform(0, 0.02) if draw.random() < 0.1 else 0 for _ in rounds),
    )


def random_rounds(draw: random.Random, prompt: list[int]) -> Iterator[Round]:
    """Each commits a path of the tree before it, as far as it pleases, and a token that may be in the tree or not."""
    committed = prompt
    for _ in range(draw.randint(1, 6)):
        tree = random_tree(draw)
        yield Round(tuple(committed), tree)
        committed, node = [], ROOT
        while children := [child for child in range(tree.num_nodes) if tree.parents[child] == node]:
            if draw.random() < 0.3 or len(committed) == 3:
                break
            node = draw.choice(children)
            committed.append(tree.token_ids[node])
        committed.append(draw.randrange(256))


def random_tree(draw: random.Random) -> DraftTree:
    num_nodes = draw.randint(0, MAX_TREE_NODES)
    parents = [draw.randrange(ROOT, node) for node in range(num_nodes)]
    return DraftTree(tuple(draw.sample(range(256), num_nodes)), tuple(parents)) if num_nodes else EMPTY_TREE


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> VerifierSettings:
    folder: Path = tmp_path_factory.mktemp("models") / "soaked-llama"
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return VerifierSettings(
        model=str(folder),
        dtype="float32",
        num_threads=1,
        page_tokens=4,
        kv_tokens=KV_TOKENS,
        max_sessions=MAX_SESSIONS,
        max_tree_nodes=MAX_TREE_NODES,
        max_pass_tokens=128,
        prefill_chunk_tokens=48,
        max_idle_s=0.02,
    )


@asynccontextmanager
async def serving(replica: VerifierReplica) -> AsyncIterator[verifier_pb2_grpc.VerifierStub]:
    server = grpc.aio.server(interceptors=[MannersInterceptor()])
    verifier_service(replica).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield verifier_pb2_grpc.VerifierStub(channel)
    await server.stop(None)


async def live(stub: verifier_pb2_grpc.VerifierStub, plan: Plan) -> Outcome:
    """One request from its first message to whatever end."""
    call = stub.Verify(timeout=plan.patience_s if plan.fate == "hurried" else None)
    replies: list[verifier_pb2.VerifyReply] = []
    error: type[DraftpoolError] | None = None
    try:
        async with asyncio.timeout(plan.patience_s if plan.fate == "cancelled" else None):
            for message, pause_s in zip(plan.messages(), (*plan.pauses_s, 0), strict=False):
                await asyncio.sleep(pause_s)
                with suppress(asyncio.InvalidStateError):  # the stream has ended; reading says how
                    await call.write(message)
                replies.append(await call.read())
    except grpc.aio.AioRpcError as raised:
        # What gRPC's own client says where a deadline passes while it is writing.
        is_late = (raised.details() or "").startswith("Internal error from Core")
        error = DeadlineExceeded if is_late else type(from_rpc_error(raised))
    except TimeoutError:
        pass
    call.cancel()
    is_crowded = any(reply.load.num_waiting > MAX_SESSIONS for reply in replies)
    return Outcome(plan, tuple(tuple(reply.chosen_token_ids) for reply in replies), error, is_crowded)


async def live_all(stub: verifier_pb2_grpc.VerifierStub, plans: list[Plan]) -> list[Outcome]:
    """All of them, so many at once."""
    places = asyncio.Semaphore(NUM_AT_ONCE)

    async def live_in_turn(plan: Plan) -> Outcome:
        async with places:
            return await live(stub, plan)

    return await asyncio.gather(*(live_in_turn(plan) for plan in plans))


def undisturbed(engine: TargetEngine, plan: Plan) -> tuple[tuple[int, ...], ...]:
    """What an engine chooses that has nothing else to do, and nothing in memory."""
    session = engine.new_session(Chooser(plan.params, VOCAB_SIZE))
    chosen = []
    for round_ in plan.rounds:
        job = VerifyJob(session, round_.committed, round_.tree)
        while job.is_open:
            engine.turn([job])
        chosen.append(job.future.result().choice.token_ids)
    engine.close_session(session)
    return tuple(chosen)


def suspended_and_reused() -> tuple[float, float]:
    names = ("draftpool_verifier_suspended_sessions_total", "draftpool_verifier_reused_tokens_total")
    suspended, reused = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
    return suspended, reused


def allowed_errors(plan: Plan) -> set[type[DraftpoolError] | None]:
    if plan.fate == "hurried":
        return {None, DeadlineExceeded, NoCapacity}
    return {FLAWS[plan.fate].error} if plan.fate in FLAWS else {None}


async def soak(replica: VerifierReplica) -> list[Outcome]:
    """Every request has ended and the replica is empty and sound, or this fails."""
    async with serving(replica) as stub:
        outcomes = await live_all(stub, [random_plan(number) for number in range(NUM_REQUESTS)])
        async with asyncio.timeout(5):
            while replica.pool.num_held or replica.engine.num_sessions:
                await asyncio.sleep(0.01)
        await asyncio.wrap_future(replica.thread.call(replica.engine.check_integrity))
    return outcomes


async def test_a_soak_ends_with_nothing_held_and_every_survivor_chose_as_if_alone(settings: VerifierSettings) -> None:
    before = suspended_and_reused()
    with closing(VerifierReplica(settings)) as replica:
        outcomes = await soak(replica)
    suspended, reused = (after - start for after, start in zip(suspended_and_reused(), before, strict=True))
    assert suspended > 0
    assert reused > 0
    assert any(outcome.is_crowded for outcome in outcomes)
    assert not [outcome for outcome in outcomes if outcome.error not in allowed_errors(outcome.plan)]

    assert all(outcome.is_whole for outcome in outcomes if outcome.plan.fate == "served")
    survivors = [outcome for outcome in outcomes if outcome.is_whole]
    ready = make_ready(replica.target, settings.model_copy(update={"kv_tokens": 1024}))
    engine = TargetEngine(ready.runner, ready.pool, replica.limits, VOCAB_SIZE)
    for outcome in random.Random(0).sample(survivors, NUM_CHECKED):
        assert undisturbed(engine, outcome.plan) == outcome.chosen, f"request {outcome.plan.number}"
