"""Model services that keep the wire contract until they are told not to: real gRPC on loopback, no model.

The target says the alphabet: after a token comes (token + 1) % 26, whatever came before.
"""

import asyncio
import gc
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum, auto
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tokenizers import Tokenizer, decoders, models

from draftpool.errors import BadParameter, BrokenProtocol, UnknownModel, UnknownVocabulary
from draftpool.rpc.channel import open_channel
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.security import ServerSecurity, add_port
from draftpool.tree import ROOT, DraftTree
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, verifier_pb2, verifier_pb2_grpc
from draftpool.v1.load_pb2 import ReplicaLoad
from draftpool.vocabulary import Vocabulary
from draftpool.wire import policy_from_wire, tree_from_wire, tree_to_wire, vocabulary_from_wire, vocabulary_to_wire
from orchestrator import draft_session, liveness
from orchestrator.discovery import Discovery, sources_of
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer() -> Tokenizer:
    """27 tokens: the letters, and one that ends the text."""
    made = Tokenizer(models.BPE({letter: index for index, letter in enumerate(LETTERS)}, [], byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["</s>"])
    return made


VOCABULARY = Vocabulary.from_tokenizer_json(tokenizer().to_str(), vocab_size=27, eos_token_ids=[26])


def next_token(token_id: int) -> int:
    return (token_id + 1) % 26


class Fault(Enum):
    """What a service may do instead of answering, besides raising an error and changing its reply."""

    HANG = auto()
    FREEZE = auto()
    END_STREAM = auto()
    ANSWER_AND_END_STREAM = auto()


FREEZE_S = 0.2
"""How long a service stops that freezes."""

Step = Exception | Fault | asyncio.Event | Callable[[Any], Any] | None
"""One message's fate: an error to raise, a fault, an event to wait for before it is taken up, a change of the reply, or
None: a proper answer."""


class Freezer(grpc.aio.ServerInterceptor):
    """Keeps every new call waiting while its service is frozen, health checks too."""

    def __init__(self, awake: asyncio.Event) -> None:
        self._awake = awake

    async def intercept_service(self, continuation, details):
        await self._awake.wait()
        return await continuation(details)


class FakeService:
    """A server that can go away and come back, and a script for the messages of its streams.

    Attributes:
        script: the next messages' fates; `always` is the fate of those beyond.
        openings: the tokens that came with the first message of every stream that it took.
        num_open: streams being served.
        has_health: whether it has a health service, from the next start on.
        num_answers: given, over all streams.
        security: how it speaks and to whom, from the next start on.
        ration: where set, each answer takes one of it, and waits for it.
        num_messages: that came with all of its streams.
        awake: cleared, it is as if the process were stopped: connected, and answering nothing.
    """

    def __init__(self, always: Step = None) -> None:
        self.script: list[Step] = []
        self.always = always
        self.openings: list[list[int]] = []
        self.num_open = 0
        self.num_answers = 0
        self.ration: asyncio.Semaphore | None = None
        self.security = ServerSecurity()
        self.num_messages = 0
        self.awake = asyncio.Event()
        self.awake.set()
        self.port = 0
        self.has_health = True
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve, on the port it had before if there was one."""
        self._server = grpc.aio.server(interceptors=[Freezer(self.awake), MannersInterceptor()])
        self.register(self._server)
        self._health = health.aio.HealthServicer()
        if self.has_health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = add_port(self._server, self.address, self.security)
        await self._server.start()

    async def stop(self, grace_s: float | None = None) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)

    async def drain(self) -> None:
        """Say that no new sessions should come, and go on with those there are."""
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    async def recover(self) -> None:
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to a server."""

    async def answers(self, requests: Any, answer: Callable[[list[int], Any], Any]) -> AsyncIterator[Any]:
        """One stream, one session: `answer` gets all tokens so far and the message."""
        self.num_open += 1
        token_ids: list[int] = []
        try:
            async for request in requests:
                self.num_messages += 1
                await self.awake.wait()
                if request.HasField("session") != (not token_ids) or not request.committed_token_ids:
                    raise BrokenProtocol("one session in the first message, at least one token in every message")
                step = self.script.pop(0) if self.script else self.always
                if isinstance(step, Exception):
                    raise step
                if step is Fault.END_STREAM:
                    return
                if step is Fault.FREEZE:
                    self.awake.clear()
                    asyncio.get_running_loop().call_later(FREEZE_S, self.awake.set)
                    await self.awake.wait()
                if step is Fault.HANG:
                    await asyncio.Event().wait()
                if self.ration is not None:
                    await self.ration.acquire()
                self.num_answers += 1
                if isinstance(step, asyncio.Event):
                    await step.wait()
                token_ids += request.committed_token_ids
                reply = answer(token_ids, request)
                if request.HasField("session"):
                    self.openings.append(token_ids.copy())
                yield step(reply) if callable(step) else reply
                if step is Fault.ANSWER_AND_END_STREAM:
                    return
        finally:
            self.num_open -= 1


class FakeVerifier(FakeService, verifier_pb2_grpc.VerifierServicer):
    """A target called `model`; `told` changes what it says of itself, `described` are the questions for that."""

    def __init__(self, model: str = "alphabet", *, always: Step = None, **told: Any) -> None:
        super().__init__(always)
        self.model = model
        self.told = told
        self.described: list[verifier_pb2.DescribeVerifierRequest] = []
        self.num_refused = 0

    def register(self, server: grpc.aio.Server) -> None:
        verifier_pb2_grpc.add_VerifierServicer_to_server(self, server)

    async def Describe(self, request, context):  # noqa: ARG002
        self.described.append(request)
        return verifier_pb2.DescribeVerifierReply(
            **{
                "model": self.model,
                "tokenizer_json": tokenizer().to_str().encode(),
                "vocabulary": vocabulary_to_wire(VOCABULARY),
                "max_context_tokens": 64,
                "max_tree_nodes": 16,
                "dtype": "float32",
                "architecture": "fake",
            }
            | self.told
        )

    def Verify(self, requests, context):  # noqa: ARG002
        return self.answers(requests, self._choose)

    def _choose(self, token_ids: list[int], request: verifier_pb2.VerifyRequest) -> verifier_pb2.VerifyReply:
        if request.HasField("session") and request.session.model != self.model:
            self.num_refused += 1
            raise UnknownModel(f"this is {self.model}")
        tree = tree_from_wire(request.tree)
        return verifier_pb2.VerifyReply(chosen_token_ids=map(next_token, [token_ids[-1], *tree.token_ids]))


class FakeDrafter(FakeService, drafter_pb2_grpc.DrafterServicer):
    """Draws chains that are right, as deep as it is asked to.

    Attributes:
        vocabularies: fingerprints that it knows; `num_lessons` counts what it was taught.
        shapes: the branching factors that it was asked for.
    """

    def __init__(self, *, always: Step = None, max_tree_nodes: int = 16, load: ReplicaLoad | None = None) -> None:
        super().__init__(always)
        self.load = load
        self.max_tree_nodes = max_tree_nodes
        self.vocabularies: set[str] = set()
        self.num_lessons = 0
        self.shapes: list[tuple[int, ...]] = []

    def register(self, server: grpc.aio.Server) -> None:
        drafter_pb2_grpc.add_DrafterServicer_to_server(self, server)

    async def Describe(self, request, context):  # noqa: ARG002
        return drafter_pb2.DescribeDrafterReply(model="fake", max_tree_nodes=self.max_tree_nodes, load=self.load)

    async def RegisterVocabulary(self, request, context):  # noqa: ARG002
        self.vocabularies.add(vocabulary_from_wire(request.vocabulary).fingerprint)
        self.num_lessons += 1
        return drafter_pb2.RegisterVocabularyReply(num_shared_tokens=26, num_target_tokens=27)

    def Draft(self, requests, context):  # noqa: ARG002
        return self.answers(requests, self._draw)

    def _draw(self, token_ids: list[int], request: drafter_pb2.DraftRequest) -> drafter_pb2.DraftReply:
        if request.HasField("session") and request.session.vocabulary_fingerprint not in self.vocabularies:
            raise UnknownVocabulary("register it")
        shape = policy_from_wire(request.policy)
        self.shapes.append(shape.branching)
        if shape.num_nodes > self.max_tree_nodes:
            raise BadParameter(f"{shape.num_nodes} nodes are too many")
        path = token_ids[-1:]
        for _ in range(shape.depth):
            path.append(next_token(path[-1]))
        return drafter_pb2.DraftReply(tree=tree_to_wire(chain_tree(path[1:])))


def chain_tree(token_ids: list[int]) -> DraftTree:
    return DraftTree(tuple(token_ids), tuple(range(ROOT, len(token_ids) - 1)))


def addresses_of(*services: FakeService) -> list[Discovery]:
    return sources_of([service.address for service in services], dns_refresh_s=60)


@asynccontextmanager
async def fleet_of(
    *services: FakeVerifier | FakeDrafter,
    refresh_s: float = 0.05,
    dial: Callable[[str], grpc.aio.Channel] = open_channel,
) -> AsyncIterator[Fleet]:
    """A fleet that watches these services; whatever a test does, no stream and no task may be left at its end, and no
    exception that nobody has seen."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with AsyncExitStack() as stack:
        for service in dict.fromkeys(services):  # one told twice is still one server
            await service.start()
            stack.push_async_callback(service.stop)
            stack.callback(service.awake.set)
        fleet = Fleet(
            verifiers=addresses_of(*(service for service in services if isinstance(service, FakeVerifier))),
            drafters=addresses_of(*(service for service in services if isinstance(service, FakeDrafter))),
            refresh_s=refresh_s,
            ejection=EjectionPolicy(first_s=refresh_s),
            dial=dial,
        )
        async with fleet.watched():
            yield fleet
            await until(lambda: not any(service.num_open for service in services))
            await until(lambda: not exchanges_under_way())
            replicas = [*fleet.drafters, *(replica for target in fleet.targets.values() for replica in target.replicas)]
            assert [replica.num_streams for replica in replicas] == [0] * len(replicas)
            gc.collect(1)  # what is recent; all there is takes long
            assert unseen == []


async def until(condition: Callable[[], bool], timeout_s: float = 3) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def exchanges_under_way() -> list[asyncio.Task[Any]]:
    """Tasks that the orchestrator made for requests."""
    makers = (draft_session.__file__, liveness.__file__)
    return [task for task in asyncio.all_tasks() if task.get_coro().cr_code.co_filename in makers]
