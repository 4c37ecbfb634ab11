"""A generation that may come in several streams, each going on where the last one broke."""

from __future__ import annotations

from collections.abc import Iterator

from draftpool.events import Event, Start, events_from_wire
from draftpool.v1 import generation_pb2


class Continuation:
    """Reads the replies of one stream after the other as one sequence of events.

    Attributes:
        request: what to ask next: the request, and once a stream has begun its seed and all tokens that have arrived.
        request_id: the first stream's; None before. The other streams go under it too.
        is_finished: whether the last event has arrived.
    """

    def __init__(self, request: generation_pb2.GenerateRequest) -> None:
        self.request = request
        self.request_id: str | None = None
        self.is_finished = False

    def events(self, reply: generation_pb2.GenerateReply) -> Iterator[Event]:
        """What a reply brings: of the streams' starts, only the first."""
        self.request.resume_token_ids.extend(token.id for token in reply.tokens)
        self.is_finished = reply.HasField("finish")
        is_first = self.request_id is None
        if reply.HasField("start") and is_first:
            self.request_id = reply.start.request_id
            self.request.sampling.seed = reply.start.seed
        for event in events_from_wire(reply):
            if is_first or not isinstance(event, Start):
                yield event
