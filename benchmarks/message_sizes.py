"""How large a round's messages are: an orchestrator's loop over real services, its messages weighed as they go out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, cast

import grpc
from rich.table import Table

from draftpool.client import BestFirst, TreePolicy, TreeShape
from draftpool.generate_request import AcceptanceRule, GenerateOptions, generate_request
from draftpool.rpc.channel import open_channel
from draftpool.tree import NO_DRAFT, chain
from draftpool.v1 import generation_pb2
from orchestrator.bandit import TreeBandit
from orchestrator.discovery import StaticAddresses
from orchestrator.drafting import DraftSource
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet, Target
from orchestrator.generation import Generation
from orchestrator.patience import DraftPatience
from orchestrator.requests import check_request
from orchestrator.rules import coupled, rejection
from orchestrator.verifying import VerifySource

_PATIENCE = DraftPatience(least_wait_s=10.0, first_wait_s=10.0)
"""No time is measured here, so every round waits for its draft."""

KINDS: tuple[tuple[AcceptanceRule, TreePolicy], ...] = (
    ("coupled", NO_DRAFT),
    ("coupled", chain(4)),
    ("coupled", BestFirst(16, 6)),
    ("coupled", TreeShape((3, 2, 2, 1, 1))),
    ("rejection", chain(4)),
    ("rejection", TreeShape((3, 2, 2, 1, 1))),
)


@dataclass
class Weighed:
    """Bytes of the messages of one generation after another, by method (`Draft`, `Verify`)."""

    requests: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    replies: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, other: Weighed) -> None:
        """All but the first messages, which open the sessions and carry the prompt."""
        for own, more in ((self.requests, other.requests), (self.replies, other.replies)):
            for method, sizes in more.items():
                own[method] += sizes[1:]


class WeighingChannel:
    """A channel whose streams write down how large their messages are; else as the one that it stands for."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.weighed = Weighed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **options: Any,
    ) -> Any:
        name = method.rpartition("/")[2]

        def serialize(message: Any) -> bytes:
            data = request_serializer(message)
            self.weighed.requests[name].append(len(data))
            return data

        def deserialize(data: bytes) -> Any:
            self.weighed.replies[name].append(len(data))
            return response_deserializer(data)

        return self._channel.stream_stream(method, serialize, deserialize, **options)


class Scales:
    """An orchestrator's loop over services that run, with all its channels weighed."""

    def __init__(self, drafters: Sequence[str], verifiers: Sequence[str]) -> None:
        self._channels: list[WeighingChannel] = []
        self.fleet = Fleet(
            verifiers=[StaticAddresses(frozenset(verifiers))],
            drafters=[StaticAddresses(frozenset(drafters))],
            refresh_s=60,
            ejection=EjectionPolicy(),
            dial=self._dial,
        )

    async def generate(self, target: str, prompt: str, options: GenerateOptions) -> list[Weighed]:
        """One generation to its end: what went over each channel."""
        for channel in self._channels:
            channel.weighed = Weighed()
        generation = await self._generation(self.fleet.target(target), generate_request(target, prompt, options))
        async for _ in generation.rounds():
            pass
        return [channel.weighed for channel in self._channels]

    def _dial(self, address: str) -> grpc.aio.Channel:
        self._channels.append(WeighingChannel(open_channel(address)))
        return cast("grpc.aio.Channel", self._channels[-1])

    async def _generation(self, target: Target, request: generation_pb2.GenerateRequest) -> Generation:
        checked = await check_request(request, target)
        return Generation(
            checked.prompt_token_ids,
            vocabulary=target.vocabulary,
            limits=checked.limits,
            drafts=DraftSource(
                self.fleet,
                target,
                checked.params.for_drafter(),
                patience=_PATIENCE,
                is_rejection=checked.is_rejection,
            ),
            verifier=VerifySource(
                target,
                checked.params,
                num_prompt_tokens=len(checked.prompt_token_ids),
                timeout_s=None,
                is_rejection=checked.is_rejection,
            ),
            bandit=TreeBandit([]),
            fixed_shape=checked.fixed_shape,
            accept=rejection(checked.params.seed) if checked.is_rejection else coupled,
        )


async def sizes_table(scales: Scales, target: str, prompts: Sequence[str], options: GenerateOptions) -> Table:
    """Median and largest message of every kind of round."""
    table = Table(title="Bytes a message, median (largest)")
    for heading in ("rule", "shape", "draft request", "draft reply", "verify request", "verify reply"):
        table.add_column(heading, justify="right")
    for rule, shape in KINDS:
        weighed = Weighed()
        for seed, prompt in enumerate(prompts):
            asked: GenerateOptions = {**options, "acceptance": rule, "drafting": shape, "seed": seed}
            for found in await scales.generate(target, prompt, asked):
                weighed.add(found)
        columns = [side[method] for method in ("Draft", "Verify") for side in (weighed.requests, weighed.replies)]
        cells = (f"{median(sizes):.0f} ({max(sizes)})" if sizes else "" for sizes in columns)
        table.add_row(rule, str(shape), *cells)
    return table
