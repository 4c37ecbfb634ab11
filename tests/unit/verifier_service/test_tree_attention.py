"""One packed pass computes what transformers computes path by path."""

import pytest
import torch

from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE
from verifier_service.attention import TREE_ATTENTION, attend_on_cpu, attend_plainly
from verifier_service.packing import Chunk, pack, visibility
from verifier_service.session import Session

GREEDY = SamplingParams(temperature=0)


def own_logits(target, token_ids) -> torch.Tensor:
    """(n, V) by transformers' plain attention."""
    target.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            return target.model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0]
    finally:
        target.model.set_attn_implementation(TREE_ATTENTION)


def assert_scores_its_paths(target, scored, context, tree) -> None:
    used = torch.ones(target.vocab_size, dtype=torch.bool).index_fill_(0, target.unused_ids, False)
    paths = [[], *([tree.token_ids[ancestor] for ancestor in tree.ancestors(node)] for node in range(tree.num_nodes))]
    for row, path in zip(scored, paths, strict=True):
        expected = own_logits(target, [*context, *path])[-1]
        torch.testing.assert_close(row[used], expected[used], rtol=1e-5, atol=1e-5)
        assert (row[~used] == -torch.inf).all()


@torch.inference_mode()
def test_trees_and_chunks_of_several_sessions_in_one_pass_equal_their_paths(
    target, make_pool, make_tree, make_ids
) -> None:
    pool = make_pool(target)
    contexts = [make_ids(0, 9), make_ids(1, 1), make_ids(2, 14), make_ids(3, 6)]
    trees = [make_tree(0, 12), make_tree(1, 5), EMPTY_TREE, make_tree(3, 20)]
    sessions = [Session(GREEDY, target.vocab_size) for _ in contexts]
    for session, context, tree in zip(sessions, contexts, trees, strict=True):
        session.advance(context, tree, pool)
    # Two sessions have a first chunk computed beforehand, so that cached and new tokens meet in the pass.
    target.forward(pack([Chunk(sessions[0], 4, is_last=False), Chunk(sessions[2], 13, is_last=False)], pool))
    sessions[0].num_cached, sessions[2].num_cached = 4, 13

    chunks = [Chunk(session, session.num_pending, is_last=True) for session in sessions[:3]]
    chunks.insert(1, Chunk(sessions[3], 2, is_last=False))
    scored = target.forward(pack(chunks, pool)).split([chunk.num_choices for chunk in chunks])
    assert [len(rows) for rows in scored] == [13, 0, 6, 1]
    for rows, index in ((scored[0], 0), (scored[2], 1), (scored[3], 2)):
        assert_scores_its_paths(target, rows, contexts[index], trees[index])

    sessions[3].num_cached = 2
    rows = target.forward(pack([Chunk(sessions[3], 4, is_last=True)], pool))
    assert_scores_its_paths(target, rows, contexts[3], trees[3])


def test_a_node_sees_its_ancestors_and_all_committed_tokens(make_tree) -> None:
    tree = make_tree(7, 15)
    sees = visibility(3, tree)
    for node in range(tree.num_nodes):
        assert {row - 3 for row in sees[3 + node].nonzero()[0] if row >= 3} == set(tree.ancestors(node))
        assert sees[3 + node, :3].all()
    assert sees[:3].tolist() == [[column <= row for column in range(18)] for row in range(3)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("num_rows", [1, 7, 60])
def test_the_fast_attention_equals_the_plain_one(dtype, tolerance, num_rows) -> None:
    torch.manual_seed(num_rows)
    query = torch.randn(3, num_rows, 8, dtype=dtype)
    keys, values = torch.randn(3, 90, 8, dtype=dtype), torch.randn(3, 90, 6, dtype=dtype)
    mask = torch.zeros(num_rows, 90, dtype=dtype).masked_fill_(torch.rand(num_rows, 90) < 0.5, -torch.inf)
    for given_mask in (mask, None):
        fast = attend_on_cpu(query, keys, values, given_mask, 0.35)
        plain = attend_plainly(
            query.float(), keys.float(), values.float(), given_mask if given_mask is None else given_mask.float(), 0.35
        )
        torch.testing.assert_close(fast.float(), plain, rtol=tolerance, atol=tolerance)
