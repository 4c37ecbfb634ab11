"""What services say of distributions is checked before anything is decided by it."""

from collections.abc import Callable

import numpy as np
import pytest

from draftpool.errors import InternalError, MalformedTree
from draftpool.tree import ROOT, DraftTree
from draftpool.v1 import tree_pb2, verifier_pb2
from orchestrator.sparse_laws import SparseLaws, draft_laws
from orchestrator.target_laws import target_laws

TREE = DraftTree((4, 2, 7), (ROOT, ROOT, 0))
ROWS = tree_pb2.SparseRows(row_lengths=[3, 2, 0, 0], token_ids=[4, 2, 9, 7, 1], probs=[0.5, 0.3, 0.2, 0.25, 0.75])


def changed(message, **fields):
    """A copy with other lists in some of its fields."""
    copy = type(message).FromString(message.SerializeToString())
    for name, values in fields.items():
        copy.ClearField(name)
        getattr(copy, name).extend(values)
    return copy


def test_rows_are_found_again_with_their_tokens() -> None:
    laws = draft_laws(ROWS, TREE, 10)
    assert laws.row_lengths.tolist() == [3, 2, 0, 0]
    assert laws.token_ids[laws.row(1)].tolist() == [7, 1]
    np.testing.assert_allclose(laws.probs[laws.row(0)], [0.5, 0.3, 0.2], rtol=1e-6)
    assert (laws.place(1, 1), laws.place(0, 9), laws.place(0, 7), laws.place(3, 7)) == (4, 2, None, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (tree_pb2.SparseRows(), "3 nodes was drawn from 0 rows"),
        (changed(ROWS, row_lengths=[3, 2, 0]), "drawn from 3 rows"),
        (changed(ROWS, row_lengths=[3, 1, 0, 0]), "4 rows of 4 tokens"),
        (changed(ROWS, probs=[1]), "1 probabilities"),
        (changed(ROWS, token_ids=[4, 2, 10, 7, 1]), "token 10, which the target does not have"),
        (changed(ROWS, token_ids=[4, 2, 2, 7, 1]), "names a token twice"),
        (changed(ROWS, token_ids=[4, 3, 2, 8, 1]), "a node is not among"),
        (changed(ROWS, probs=[0.5, 0.3, 0.1, 0.25, 0.75]), "do not add up to 1"),
        (changed(ROWS, probs=[0.5, 0.7, -0.2, 0.25, 0.75]), "do not add up to 1"),
        (changed(ROWS, probs=[0.5, 0.3, 0.2, float("nan"), 0.75]), "do not add up to 1"),
    ],
)
def test_a_draft_that_cannot_have_been_drawn_so_is_refused(rows: tree_pb2.SparseRows, words: str) -> None:
    with pytest.raises(MalformedTree, match=words):
        draft_laws(rows, TREE, 10)


SUPPORT = draft_laws(ROWS, TREE, 10)
REPLY = verifier_pb2.VerifyReply(
    target_probs=tree_pb2.SparseRows(probs=[0.1, 0.2, 0.3, 0.5, 0.5]),
    outside_probs=[0.4, 0, 1, 1],
    outside_token_ids=[3, 0, 4, 5],
    support_logprobs=[-1, -2, -3, -4, -5],
)


def test_a_verifiers_laws_stand_beside_the_drafts() -> None:
    laws = target_laws(REPLY, SUPPORT, has_logprobs=True)
    np.testing.assert_allclose(laws.inside.probs[laws.inside.row(1)], [0.5, 0.5])
    assert laws.outside_token_ids == (3, 0, 4, 5)
    assert laws.logprobs[laws.inside.place(0, 9)] == -3


def test_a_row_without_support_is_all_outside() -> None:
    reply = verifier_pb2.VerifyReply(outside_probs=[1], outside_token_ids=[7])
    assert target_laws(reply, SparseLaws.empty(1), has_logprobs=False).outside_probs.tolist() == [1]


@pytest.mark.parametrize(
    "change",
    [
        lambda: verifier_pb2.VerifyReply(),
        lambda: changed(REPLY, outside_probs=[0.4, 0, 1]),
        lambda: changed(REPLY, outside_token_ids=[3, 0, 4, 5, 6]),
        lambda: changed(REPLY, support_logprobs=[]),
        lambda: changed(REPLY, outside_probs=[0.1, 0, 1, 1]),
        lambda: changed(REPLY, outside_probs=[0.4, float("nan"), 1, 1]),
        lambda: changed(REPLY, outside_token_ids=[9, 0, 4, 5]),
    ],
    ids=["nothing", "rows", "tokens", "logprobs", "mass", "nan", "from inside"],
)
def test_a_verifier_that_breaks_the_contract_is_a_bug(change: Callable[[], verifier_pb2.VerifyReply]) -> None:
    with pytest.raises(InternalError):
        target_laws(change(), SUPPORT, has_logprobs=True)
