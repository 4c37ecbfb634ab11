"""Who goes into the next forward pass, with how many tokens. Pure.

A pass has room for a number of tokens, and within it for a smaller number of *prefill* tokens: committed
tokens that no logits are needed for. Waiting requests take from both in the order in which they came. A long
prompt therefore advances by a chunk a pass and delays the others by no more than that chunk, and it cannot be
starved either: those that come later stand behind it.
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
    """Divide a pass among requests, first come first served.

    A request that fits whole finishes. One that does not gets a chunk of its prefill, or, where only its tree
    does not fit, waits; smaller ones behind it may still go along. A tree is never divided.

    Args:
        wants: in order of arrival; each fits a pass of its own apart from its prefill
            (1 + num_nodes <= max_pass_tokens - prefill_chunk_tokens).

    Returns:
        In the same order; not empty unless `wants` is.
    """
    num_free = limits.max_pass_tokens
    num_free_for_prefill = limits.prefill_chunk_tokens
    shares = []
    for request, want in enumerate(wants):
        num_prefill = want.num_pending - 1
        is_last = num_prefill <= num_free_for_prefill and want.num_pending + want.num_nodes <= num_free
        num_committed = want.num_pending if is_last else min(num_prefill, num_free_for_prefill, num_free)
        if num_committed == 0:
            continue
        shares.append(Share(request, num_committed, is_last))
        num_free -= num_committed + (want.num_nodes if is_last else 0)
        num_free_for_prefill -= num_committed - 1 if is_last else num_committed
    return shares
