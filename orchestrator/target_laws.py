"""What a verifier says of the target's distributions, for the rejection rule. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from draftpool.errors import InternalError
from draftpool.v1 import verifier_pb2
from orchestrator.sparse_laws import FloatArray, SparseLaws

_MAX_ERROR = 1e-2
"""Of a sum of probabilities; what is beyond rounding is somebody's bug."""

_ANY_VOCABULARY = 2**32
"""Larger than any token id that can be sent."""


@dataclass(frozen=True, eq=False)
class TargetLaws:
    """The target's law after the last committed token and after every node, R rows.

    Attributes:
        inside: on the tokens that the draft was drawn from.
        outside_probs: (R,), of everything else; 0 where nothing else can be chosen.
        outside_token_ids: R, each sampled from everything else; means nothing where that has no probability.
        logprobs: (S,) of the tokens in `inside`, under the model's own distribution; empty where not asked for.
    """

    inside: SparseLaws
    outside_probs: FloatArray
    outside_token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()


def target_laws(reply: verifier_pb2.VerifyReply, support: SparseLaws, *, has_logprobs: bool) -> TargetLaws:
    """The laws in a verifier's reply.

    Args:
        support: what it was asked about; the probabilities there are the draft's.

    Raises:
        InternalError: the reply breaks the contract.
    """
    num_rows, num_tokens = len(support.offsets) - 1, len(support.token_ids)
    probs = np.array(reply.target_probs.probs, dtype=np.float64)
    outside_probs = np.array(reply.outside_probs, dtype=np.float64)
    lengths = len(probs), len(outside_probs), len(reply.outside_token_ids), len(reply.support_logprobs)
    if lengths != (num_tokens, num_rows, num_rows, num_tokens if has_logprobs else 0):
        raise InternalError(f"asked about {num_tokens} tokens in {num_rows} rows, a verifier answered {lengths}")
    rows = np.repeat(np.arange(num_rows), support.row_lengths)
    totals = np.bincount(rows, weights=probs, minlength=num_rows) + outside_probs
    if not (np.all(probs >= 0) and np.all(outside_probs >= 0) and np.all(np.abs(totals - 1) < _MAX_ERROR)):
        raise InternalError("the probabilities that a verifier answered do not add up to 1")
    rows_and_tokens = rows * _ANY_VOCABULARY + support.token_ids
    outside_token_ids = np.array(reply.outside_token_ids, dtype=np.int64)
    is_inside = np.isin(np.arange(num_rows) * _ANY_VOCABULARY + outside_token_ids, rows_and_tokens)
    if np.any(is_inside & (outside_probs > 0)):
        raise InternalError("a verifier sampled from inside a support, not from outside")
    return TargetLaws(
        SparseLaws(support.offsets, support.token_ids, probs),
        outside_probs,
        tuple(reply.outside_token_ids),
        tuple(reply.support_logprobs),
    )
