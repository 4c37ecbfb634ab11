"""What a request has used, from its arrival on."""

from __future__ import annotations

import time

from draftpool.v1 import generation_pb2
from orchestrator.generation import Round
from orchestrator.requests import CheckedRequest


class Ledger:
    """Adds a request's usage up, round by round.

    Attributes:
        usage: so far, but for the times that `total` closes the account with.
    """

    def __init__(self) -> None:
        self._arrived_ns = time.perf_counter_ns()
        self.usage = generation_pb2.Usage()

    def start(self, *, waited_s: float) -> None:
        """The request's target is up, after so long."""
        self.usage.cold_start_us = round(waited_s * 1e6)

    def admit(self, checked: CheckedRequest, *, waited_s: float) -> None:
        self.usage.num_prompt_tokens = len(checked.prompt_token_ids)
        self.usage.num_resumed_tokens = len(checked.resumed_token_ids)
        self.wait(reader_s=0.0, queue_s=waited_s)

    def add(self, round_: Round) -> None:
        usage = self.usage
        if usage.num_rounds == 0:
            usage.time_to_first_token_us = self._elapsed_us()
        usage.num_rounds += 1
        usage.num_new_tokens += round_.num_committed
        usage.num_drafted_nodes += round_.tree.num_nodes
        usage.num_accepted_tokens += round_.num_accepted
        usage.draft_us += round_.draft_us
        usage.verify_us += round_.verify_us
        usage.wire_us += round_.wire_us
        usage.num_hedged_rounds += round_.was_hedged
        usage.num_late_drafts += round_.draft_was_late
        usage.num_draft_sessions += round_.opened_draft_session
        usage.num_verify_sessions += round_.opened_verify_session
        if round_.opened_verify_session:
            usage.prefill_us += round_.verify_us

    def wait(self, *, reader_s: float, queue_s: float) -> None:
        """How long the request has waited so far for its reader and for a place."""
        self.usage.reader_us = round(reader_s * 1e6)
        self.usage.queue_us = round(queue_s * 1e6)

    def total(self) -> generation_pb2.Usage:
        self.usage.total_us = self._elapsed_us()
        return self.usage

    def _elapsed_us(self) -> int:
        return (time.perf_counter_ns() - self._arrived_ns) // 1000
