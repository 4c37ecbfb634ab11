"""How long the orchestrator waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DraftPatience:
    """How long drafts and drafters are waited for.

    Attributes:
        least_wait_s: a round waits for its draft as long as verifying without one takes, and at least this long: until
            the former is known, and because a busy machine wakes nobody up on time.
        first_wait_s: of a request's first round. It need not wait: the verifier takes in the context at the same time,
            and what the drafter has drawn by then is a late draft for the next round.
        stall_s: without a reply, until the drafter is asked whether it lives.
        timeout_s: until a drafter that lives and does not reply is given up.
    """

    least_wait_s: float = 0.005
    first_wait_s: float = 0.0
    stall_s: float = 0.5
    timeout_s: float = 5.0


@dataclass(frozen=True)
class VerifyPatience:
    """How long a verifier is waited for.

    Attributes:
        stall_s: without a reply, until it is asked whether it lives.
        recovery_s: for some verifier to take a request over, before the client is told that there is none.
    """

    stall_s: float = 0.5
    recovery_s: float = 30.0
