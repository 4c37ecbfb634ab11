"""The kernels compute what the torch operators compute; run by Triton's interpreter where there is no GPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.verifier_service.passes import filled_store, layout_of, new_keys_and_values, passes
from verifier_service.attention import AttentionOptions
from verifier_service.grouped_attention import GroupedAttention
from verifier_service.kv_store import LayerShape
from verifier_service.packing import Segment
from verifier_service.pass_tensors import PassShape, PassTensors, lay_out

pytest.importorskip("triton", reason="the kernels are tested where Triton is installed: pip install triton")

from verifier_service.triton_attention import TritonAttention, choose_num_splits, choose_tile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
UNSPLIT, SPLIT = 1, 10_000
"""Processors of a device that one program keeps busy, and of one that wants its keys divided as far as they go."""

OPTIONS = {
    "plain": AttentionOptions(0.4),
    "window": AttentionOptions(0.4, window=5),
    "window of one": AttentionOptions(0.4, window=1),
    "soft cap": AttentionOptions(0.4, softcap=2.0),
    "sinks": AttentionOptions(0.4, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.5], device=DEVICE)),
    "all": AttentionOptions(0.4, 9, 2.0, torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.5], device=DEVICE)),
}


def attend_both_ways(segments, num_pages, page_tokens, options, shape, num_processors, num_heads=6):
    """(T, num_heads, value_dim) by the kernels, and by the torch operators."""
    num_rows = segments[-1].stop
    query = torch.randn(num_heads, num_rows, shape.key_dim, dtype=shape.dtype, device=DEVICE)
    keys, values = new_keys_and_values(shape, num_rows)
    # The kernels must not look at slots that nobody has written.
    store = filled_store(shape, segments, num_pages, page_tokens, unwritten=torch.nan)
    tensors = PassTensors.of(layout_of(segments), page_tokens, DEVICE)
    attention = TritonAttention(store, tensors, num_processors=num_processors)
    attended = attention.attend(0, query[None], keys[None], values[None], options)[0]
    for kept in (store.keys[0], store.values[0]):
        kept.nan_to_num_()
    plain = GroupedAttention(store, segments).attend(0, query[None], keys[None], values[None], options)[0]
    return attended, plain


@settings(max_examples=20)
@given(given_pass=passes(), seed=st.integers(0, 1000), options=st.sampled_from(list(OPTIONS.values())))
def test_any_pass_over_any_pages(given_pass, seed, options) -> None:
    torch.manual_seed(seed)
    shape = LayerShape(num_heads=2, key_dim=5, value_dim=3, dtype=torch.float32, device=DEVICE)
    attended, plain = attend_both_ways(*given_pass, options, shape, UNSPLIT)
    torch.testing.assert_close(attended, plain, rtol=1e-5, atol=1e-5)


LONG = [
    Segment(0, 1, 140, 1, (), tuple(range(20, 29))),
    Segment(1, 37, 260, 1, (-1, 0, 1, -1, 3, *range(30)), tuple(reversed(range(29, 48)))),
    Segment(37, 42, 0, 5, (), (0,)),
]


@pytest.mark.parametrize("num_processors", [UNSPLIT, SPLIT])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_long_contexts_and_large_trees_whole_and_divided(options, num_processors) -> None:
    torch.manual_seed(1)
    shape = LayerShape(num_heads=2, key_dim=8, value_dim=8, dtype=torch.float32, device=DEVICE)
    attended, plain = attend_both_ways(LONG, 48, 16, options, shape, num_processors)
    torch.testing.assert_close(attended, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_kv_heads", "num_heads"), [(1, 1), (4, 4), (1, 20)])
def test_any_number_of_heads_may_share_a_key(num_kv_heads, num_heads) -> None:
    torch.manual_seed(2)
    shape = LayerShape(num_kv_heads, key_dim=20, value_dim=12, dtype=torch.float32, device=DEVICE)
    attended, plain = attend_both_ways(LONG, 48, 16, OPTIONS["plain"], shape, SPLIT, num_heads)
    torch.testing.assert_close(attended, plain, rtol=1e-5, atol=1e-5)


def test_half_precision_is_that_of_float32_but_for_rounding() -> None:
    torch.manual_seed(3)
    shape = LayerShape(num_heads=2, key_dim=16, value_dim=16, dtype=torch.float16, device=DEVICE)
    attended, plain = attend_both_ways(LONG, 48, 16, OPTIONS["plain"], shape, SPLIT)
    assert attended.dtype == torch.float16
    torch.testing.assert_close(attended.float(), plain.float(), rtol=1e-2, atol=1e-2)


def test_a_pass_laid_out_in_a_larger_shape_is_attended_alike() -> None:
    """As a recorded pass is used: more segments, words and pages than it needs, and longer keys."""
    torch.manual_seed(4)
    shape = LayerShape(num_heads=2, key_dim=8, value_dim=8, dtype=torch.float32, device=DEVICE)
    query, (keys, values) = torch.randn(1, 6, 42, 8, device=DEVICE), new_keys_and_values(shape, 42)
    store = filled_store(shape, LONG, 48, 16)
    layout = layout_of(LONG)
    larger = PassShape(42, 9, 42, 4, 200, 5000, 7)
    flat = torch.zeros(sum(larger.sections), dtype=torch.int32, device=DEVICE)
    used = torch.from_numpy(lay_out(layout, larger, 16))
    flat[: len(used)] = used.to(DEVICE)
    attended, expected = (
        TritonAttention(store, tensors).attend(0, query, keys[None], values[None], OPTIONS["window"])
        for tensors in (PassTensors.over(flat, larger), PassTensors.of(layout, 16, DEVICE))
    )
    torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-5)


@given(
    num_groups=st.integers(1, 128),
    typical_rows=st.integers(1, 2000),
    dim=st.sampled_from([16, 64, 128, 256]),
    num_bytes=st.sampled_from([2, 4]),
)
def test_a_tile_holds_whole_rows_and_fits_in_shared_memory(num_groups, typical_rows, dim, num_bytes) -> None:
    tile = choose_tile(num_groups, typical_rows, 2 * dim * num_bytes, dim * num_bytes)
    assert tile.num_rows >= 1
    assert tile.num_rows * num_groups <= tile.num_pairs
    assert {tile.num_pairs.bit_count(), tile.num_keys.bit_count()} == {1}
    assert min(tile.num_pairs, tile.num_keys) >= 16
    if num_groups <= 32:
        assert tile.num_pairs * dim * num_bytes + 4 * tile.num_keys * dim * num_bytes <= 96 * 1024


def test_keys_are_divided_only_where_programs_are_few_and_keys_are_many() -> None:
    assert choose_num_splits(num_programs=8, max_keys=8192, num_processors=132) == 33
    assert choose_num_splits(num_programs=8, max_keys=200, num_processors=132) == 2
    assert choose_num_splits(num_programs=1000, max_keys=8192, num_processors=132) == 1
    assert choose_num_splits(num_programs=8, max_keys=10, num_processors=132) == 1
