"""One packed pass computes what transformers computes path by path."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE
from verifier_service.attention import TREE_ATTENTION, AttentionOptions
from verifier_service.choosing import Chooser
from verifier_service.grouped_attention import GroupedAttention, attend_plainly, group_segments
from verifier_service.kv_store import KvStore, LayerShape
from verifier_service.packing import Chunk, Segment, pack
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
    target, make_memory, make_tree, make_ids
) -> None:
    runner, pool = make_memory(target)
    contexts = [make_ids(0, 9), make_ids(1, 1), make_ids(2, 14), make_ids(3, 6)]
    trees = [make_tree(0, 12), make_tree(1, 5), EMPTY_TREE, make_tree(3, 20)]
    sessions = [Session(Chooser(GREEDY, target.vocab_size), pool) for _ in contexts]
    fresh: list[int] = []
    for session, context, tree in zip(sessions, contexts, trees, strict=True):
        session.advance(context, tree)
        fresh += session.take()

    def score(*chunks):
        logits = runner.run(pack(chunks, cleared=fresh))
        fresh.clear()
        for chunk in chunks:
            chunk.session.num_cached += chunk.num_committed
        return logits.split([chunk.num_choices for chunk in chunks])

    # Two sessions have a first chunk computed beforehand, so that cached and new tokens meet in the pass.
    score(Chunk(sessions[0], 4, is_last=False), Chunk(sessions[2], 13, is_last=False))
    chunks = [Chunk(session, session.num_pending, is_last=True) for session in sessions[:3]]
    chunks.insert(1, Chunk(sessions[3], 2, is_last=False))
    scored = score(*chunks)
    assert [len(rows) for rows in scored] == [13, 0, 6, 1]
    for rows, index in ((scored[0], 0), (scored[2], 1), (scored[3], 2)):
        assert_scores_its_paths(target, rows, contexts[index], trees[index])
    (rows,) = score(Chunk(sessions[3], 4, is_last=True))
    assert_scores_its_paths(target, rows, contexts[3], trees[3])


def test_a_node_sees_its_ancestors_and_all_committed_tokens(make_tree) -> None:
    tree = make_tree(7, 15)
    segment = Segment(start=0, stop=18, num_cached=4, num_committed=3, parents=tree.parents, pages=(0, 1))
    sees = segment.sees()
    for node in range(tree.num_nodes):
        assert {row - 3 for row in sees[3 + node].nonzero()[0] if row >= 3} == set(tree.ancestors(node))
        assert sees[3 + node, :3].all()
    assert sees[:3].tolist() == [[column <= row for column in range(18)] for row in range(3)]
    assert segment.positions().tolist() == [4, 5, 6, *(6 + depth for depth in tree.depths)]


@st.composite
def passes(draw):
    """Segments of random sizes whose pages are dealt at random, and how many pages there are."""
    page_tokens = draw(st.sampled_from([1, 3, 4]))
    segments, start, num_pages = [], 0, 0
    for _ in range(draw(st.integers(1, 6))):
        num_cached, num_committed = draw(st.integers(0, 20)), draw(st.integers(1, 6))
        parents = tuple(draw(st.integers(-1, node - 1)) for node in range(draw(st.sampled_from([0, 0, 3, 7]))))
        stop = start + num_committed + len(parents)
        own = -(-(num_cached + stop - start) // page_tokens)
        segments.append(
            Segment(start, stop, num_cached, num_committed, parents, tuple(range(num_pages, num_pages + own)))
        )
        start, num_pages = stop, num_pages + own
    order = draw(st.permutations(range(num_pages)))
    dealt = [
        Segment(s.start, s.stop, s.num_cached, s.num_committed, s.parents, tuple(order[page] for page in s.pages))
        for s in segments
    ]
    return dealt, num_pages, page_tokens


def attend_naively(query, keys, values, segment, options):
    """(num_heads, value_dim) for each row of a segment, from its own keys in order, by the definition."""
    sees, positions = segment.sees(), segment.positions()
    key_positions = [*range(segment.num_cached), *positions]
    groups = query.shape[0] // keys.shape[0]
    outputs = []
    for row in range(segment.num_rows):
        seen = [
            index
            for index, position in enumerate(key_positions)
            if (index < segment.num_cached or sees[row, index - segment.num_cached])
            and (options.window is None or positions[row] - position < options.window)
        ]
        heads = []
        for head in range(query.shape[0]):
            scores = keys[head // groups, seen] @ query[head, segment.start + row] * options.scaling
            if options.softcap is not None:
                scores = options.softcap * torch.tanh(scores / options.softcap)
            if options.sinks is not None:
                scores = torch.cat([scores, options.sinks[head : head + 1]])
            weights = F.softmax(scores, dim=0)[: len(seen)]
            heads.append(weights @ values[head // groups, seen])
        outputs.append(torch.stack(heads))
    return torch.stack(outputs)


@given(
    given_pass=passes(),
    seed=st.integers(0, 1000),
    window=st.sampled_from([None, 1, 3, 9]),
    softcap=st.sampled_from([None, 2.0]),
    has_sinks=st.booleans(),
)
def test_any_pass_over_any_pages_attends_as_the_definition_says(given_pass, seed, window, softcap, has_sinks) -> None:
    segments, num_pages, page_tokens = given_pass
    torch.manual_seed(seed)
    num_heads, num_kv_heads, num_rows = 4, 2, segments[-1].stop
    store = KvStore([LayerShape(num_kv_heads, 5, 3, torch.float32, torch.device("cpu"))], num_pages, page_tokens)
    store.clear(range(num_pages))
    query = torch.randn(1, num_heads, num_rows, 5)
    new_keys, new_values = torch.randn(1, num_kv_heads, num_rows, 5), torch.randn(1, num_kv_heads, num_rows, 3)
    options = AttentionOptions(0.4, window, softcap, torch.randn(num_heads) if has_sinks else None)
    all_keys, all_values = [], []
    for segment in segments:
        cached = torch.randn(num_kv_heads, segment.num_cached, 5), torch.randn(num_kv_heads, segment.num_cached, 3)
        index = np.arange(segment.num_cached)
        slots = np.array(segment.pages)[index // page_tokens] * page_tokens + index % page_tokens
        store.write(0, torch.from_numpy(slots), *cached)
        all_keys.append(torch.cat([cached[0], new_keys[0, :, segment.start : segment.stop]], dim=1))
        all_values.append(torch.cat([cached[1], new_values[0, :, segment.start : segment.stop]], dim=1))
    attended = GroupedAttention(store, segments).attend(0, query, new_keys, new_values, options)
    for segment, keys, values in zip(segments, all_keys, all_values, strict=True):
        expected = attend_naively(query[0], keys, values, segment, options)
        torch.testing.assert_close(attended[0, segment.start : segment.stop], expected, rtol=1e-5, atol=1e-5)


@given(
    sizes=st.lists(st.tuples(st.sampled_from([1, 1, 6, 17, 200]), st.integers(0, 3000)), min_size=1, max_size=40),
)
def test_groups_cover_all_segments_and_padding_is_bounded(sizes) -> None:
    segments, start = [], 0
    for num_rows, num_cached in sizes:
        segments.append(Segment(start, start + num_rows, num_cached, num_rows, (), ()))
        start += num_rows
    groups = group_segments(segments)
    assert sorted(segment.start for group in groups for segment in group) == [segment.start for segment in segments]
    for group in groups:
        real = sum(segment.num_rows * segment.num_keys for segment in group)
        padded = len(group) * max(s.num_rows for s in group) * max(s.num_keys for s in group)
        assert padded <= max(1.5 * real, real + 4096)


def test_sessions_of_one_size_are_attended_together() -> None:
    segments = [Segment(index * 17, index * 17 + 17, 300 + index, 1, (-1,) * 16, ()) for index in range(32)]
    assert len(group_segments(segments)) == 1


@pytest.mark.parametrize("num_rows", [1, 7, 60])
def test_bfloat16_attention_is_that_of_float32_but_for_rounding(num_rows) -> None:
    torch.manual_seed(num_rows)
    query, keys, values = torch.randn(3, num_rows, 8), torch.randn(3, 90, 8), torch.randn(3, 90, 6)
    mask = torch.zeros(1, 1, num_rows, 90).masked_fill_(torch.rand(num_rows, 90) < 0.5, -torch.inf)
    options = AttentionOptions(0.35)
    narrow = attend_plainly(query.bfloat16(), keys.bfloat16(), values.bfloat16(), mask.bfloat16(), options)
    torch.testing.assert_close(narrow.float(), attend_plainly(query, keys, values, mask, options), rtol=3e-2, atol=3e-2)
