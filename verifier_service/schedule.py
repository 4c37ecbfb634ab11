"""Who goes into the next forward pass, with how many tokens. Pure.

A pass has room for a number of tokens, and within it for a smaller number of *prefill* tokens: committed
tokens that no logits are needed for. Waiting requests take from the first in the order in which they came, and share
the second. A long prompt therefore advances by a chunk a pass and delays the others by no more than that chunk, and
it cannot be starved either: whoever has waited longest gets half of every chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import BadParameter


@dataclass(frozen=True)
class PassLimits:
    """How large a pass may be.

    Attributes:
        max_pass_tokens: tokens of a pass, all sessions together.
        prefill_chunk_tokens: those of them that only fill the cache.

    Raises:
        BadParameter: no room for prefill, or for nothing else.
    """

    max_pass_tokens: int
    prefill_chunk_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.prefill_chunk_tokens < self.max_pass_tokens:
            raise BadParameter(
                f"prefill_chunk_tokens ({self.prefill_chunk_tokens}) must be at least 1 and below "
                f"max_pass_tokens ({self.max_pass_tokens})"
            )

    def halved(self, smallest: PassLimits) -> PassLimits:
        """Half as large, but not below `smallest`."""
        return PassLimits(
            max_pass_tokens=max(self.max_pass_tokens // 2, smallest.max_pass_tokens),
            prefill_chunk_tokens=max(self.prefill_chunk_tokens // 2, smallest.prefill_chunk_tokens),
        )

    def budget_share(self, *, num_tokens: int, num_prefill_tokens: int) -> float:
        """How full a pass is, 0 to 1: of its tokens or of those for prefill, whichever is fuller.

        A verifier that takes in prompts without end is as full as one that scores trees without end, although its
        passes are not.
        """
        return min(1.0, max(num_tokens / self.max_pass_tokens, num_prefill_tokens / self.prefill_chunk_tokens))


@dataclass(frozen=True)
class Want:
    """What a waiting request still needs.

    Attributes:
        num_pending: committed tokens that are not in the cache, at least 1.
        num_nodes: of the tree to score after the last of them.
    """

    num_pending: int
    num_nodes: int


@dataclass(frozen=True)
class Share:
    """What a request gets of a pass.

    Attributes:
        request: index into the wants.
        num_committed: how many of the pending tokens.
        is_last: whether they are all of them; the tree is then in the pass too, and the request is done.
    """

    request: int
    num_committed: int
    is_last: bool


def plan_pass(wants: Sequence[Want], limits: PassLimits) -> list[Share]:
    """Divide a pass among requests.

    A request that fits whole finishes. One that does not gets a chunk of its prefill, or, where only its tree
    does not fit, waits; smaller ones behind it may still go along. A tree is never divided.

    Args:
        wants: in order of arrival; each fits a pass of its own apart from its prefill
            (1 + num_nodes <= max_pass_tokens - prefill_chunk_tokens).

    Returns:
        In the same order; not empty unless `wants` is.
    """
    num_free = limits.max_pass_tokens
    grants = divide_prefill([want.num_pending - 1 for want in wants], limits.prefill_chunk_tokens)
    shares = []
    for request, (want, num_granted) in enumerate(zip(wants, grants, strict=True)):
        num_last = want.num_pending + want.num_nodes
        is_last = num_granted == want.num_pending - 1 and num_last <= num_free
        num_committed = want.num_pending if is_last else min(num_granted, num_free)
        if num_committed == 0:
            continue
        shares.append(Share(request, num_committed, is_last))
        num_free -= num_last if is_last else num_committed
    return shares


def divide_prefill(wanted: Sequence[int], num_tokens: int) -> list[int]:
    """Divide a pass's prefill tokens among requests.

    Half goes to the request that has waited longest, so that none waits for ever; the rest to those with the least
    left to compute, so that a short prompt does not wait for a long one.

    Args:
        wanted: tokens by request, in order of arrival; 0 where none are.

    Returns:
        As many as are given to each; together `num_tokens`, or all that is wanted.
    """
    granted = [0] * len(wanted)
    waiting = [request for request, num_wanted in enumerate(wanted) if num_wanted > 0]
    for request in waiting[:1]:
        granted[request] = min(wanted[request], -(-num_tokens // 2))
    num_left = num_tokens - sum(granted)
    for request in sorted(waiting, key=lambda request: wanted[request]):
        more = min(wanted[request] - granted[request], num_left)
        granted[request] += more
        num_left -= more
    return granted
