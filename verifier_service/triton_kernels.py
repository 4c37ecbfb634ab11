"""The Triton kernels of tree attention over pages; `verifier_service.triton_attention` launches them.

One program takes a tile of rows of one segment and the query heads that share one key-value head, so each key is read
once for all of them. It goes over its share of the keys with an online softmax (FlashAttention-2, arXiv:2307.08691),
finding each key's slot in the block table (vLLM's paged attention, arXiv:2309.06180). Where there are few tiles, the
keys are divided among programs and a second kernel joins what they found (Flash-Decoding). All lengths are read from
device tensors: a launch depends on a pass's shape alone.

Tiles of rows are dealt to segments as in vLLM's unified attention: segment s may have its tiles from
`starts[s] // TILE_ROWS + s` on, which leaves room for all of them wherever its first row is.

There are no types for Triton, so mypy sees nothing in here.
"""

# ruff: noqa: N803 -- what is known when a kernel is compiled is in capitals, as everywhere in Triton

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_segments", "num_rows", "window"])
def attend_tiles(
    query,  # (H, T, key_dim), strides (query_head_stride, query_row_stride, 1)
    keys,  # (H_kv, S, key_dim), strides (key_head_stride, key_dim, 1)
    values,  # (H_kv, S, value_dim), strides (value_head_stride, value_dim, 1)
    sinks,  # (H,)
    output,  # (T, H, value_dim): of all keys, in the query's type; of one split, (splits, T, H, value_dim) float32
    log_totals,  # (splits, T, H) float32, only of splits: log of the sum of exp(score)
    starts,  # (B + 1,)
    num_cached,  # (B,)
    num_committed,  # (B,)
    first_pages,  # (B,)
    pages,  # (N,)
    positions,  # (T,)
    ancestors,  # (T, NUM_WORDS)
    num_segments,
    num_rows,
    query_head_stride,
    query_row_stride,
    key_head_stride,
    value_head_stride,
    scaling,
    softcap,
    window,
    HAS_SOFTCAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    NUM_GROUPS: tl.constexpr,  # query heads to a key-value head
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    NUM_WORDS: tl.constexpr,
    TILE_ROWS: tl.constexpr,  # rows of the pass in a tile
    BLOCK_M: tl.constexpr,  # a power of two, at least TILE_ROWS * NUM_GROUPS
    BLOCK_N: tl.constexpr,  # keys in a step
    BLOCK_KEY_DIM: tl.constexpr,
    BLOCK_VALUE_DIM: tl.constexpr,
    BLOCK_SEGMENTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)

    # Which segment is this tile of, and which of its rows?
    candidates = tl.arange(0, BLOCK_SEGMENTS)
    is_candidate = candidates < num_segments
    first_tiles = tl.load(starts + candidates, mask=is_candidate, other=0) // TILE_ROWS + candidates
    segment = tl.sum((is_candidate & (first_tiles <= tile)).to(tl.int32), axis=0) - 1
    start = tl.load(starts + segment)
    num_new = tl.load(starts + segment + 1) - start
    first_row = (tile - (start // TILE_ROWS + segment)) * TILE_ROWS
    if first_row >= num_new:
        return
    cached = tl.load(num_cached + segment)
    committed = tl.load(num_committed + segment)
    table = pages + tl.load(first_pages + segment)
    first_node = cached + committed

    # BLOCK_M pairs of a row and a query head.
    pairs = tl.arange(0, BLOCK_M)
    rows = first_row + pairs // NUM_GROUPS
    heads = kv_head * NUM_GROUPS + pairs % NUM_GROUPS
    is_pair = (pairs // NUM_GROUPS < TILE_ROWS) & (rows < num_new)
    packed_rows = start + rows
    key_dims = tl.arange(0, BLOCK_KEY_DIM)
    value_dims = tl.arange(0, BLOCK_VALUE_DIM)
    wanted = tl.load(
        query
        + heads.to(tl.int64)[:, None] * query_head_stride
        + packed_rows.to(tl.int64)[:, None] * query_row_stride
        + key_dims[None, :],
        mask=is_pair[:, None] & (key_dims < KEY_DIM)[None, :],
        other=0.0,
    )

    # The keys that any row of the tile may see, and this program's share of them, in whole steps.
    num_seen = tl.minimum(cached + rows + 1, first_node)
    end_of_keys = cached + tl.minimum(first_row + TILE_ROWS, num_new)
    begin_of_keys = 0
    if HAS_WINDOW:
        lowest_position = cached + tl.minimum(first_row, committed)
        begin_of_keys = tl.maximum(lowest_position - window + 1, 0) // BLOCK_N * BLOCK_N
        row_positions = tl.load(positions + packed_rows, mask=is_pair, other=0)
    steps_of_all = tl.cdiv(end_of_keys - begin_of_keys, BLOCK_N)
    steps = tl.cdiv(steps_of_all, tl.num_programs(2))
    begin = begin_of_keys + split * steps * BLOCK_N
    end = tl.minimum(begin + steps * BLOCK_N, end_of_keys)
    # Cached keys are seen by all rows, unless there is a window: whole steps of them need no mask.
    plain_end = begin
    if not HAS_WINDOW:
        plain_end = begin + tl.maximum(tl.minimum(end, cached) - begin, 0) // BLOCK_N * BLOCK_N

    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    if HAS_SINKS:  # noqa: SIM102 -- decided when compiling, the other `if` when running
        if split == 0:  # a sink is a score like others, once for each row
            largest = tl.load(sinks + heads, mask=is_pair, other=0.0).to(tl.float32)
            total = tl.full((BLOCK_M,), 1.0, tl.float32)
    summed = tl.zeros((BLOCK_M, BLOCK_VALUE_DIM), tl.float32)
    key_base = keys + kv_head.to(tl.int64) * key_head_stride
    value_base = values + kv_head.to(tl.int64) * value_head_stride

    for is_masked in tl.static_range(2):
        for first_key in range(plain_end if is_masked else begin, end if is_masked else plain_end, BLOCK_N):
            index = first_key + tl.arange(0, BLOCK_N)
            is_key = index < end
            page = tl.load(table + index // PAGE_TOKENS, mask=is_key, other=0)
            slots = page.to(tl.int64) * PAGE_TOKENS + index % PAGE_TOKENS
            key_block = tl.load(
                key_base + slots[None, :] * KEY_DIM + key_dims[:, None],
                mask=is_key[None, :] & (key_dims < KEY_DIM)[:, None],
                other=0.0,
            )
            scores = tl.dot(wanted, key_block, input_precision=PRECISION) * scaling
            if HAS_SOFTCAP:
                scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # tanh
            if is_masked:
                nodes = index - first_node
                is_node = (nodes >= 0) & is_key
                some_node = tl.maximum(nodes, 0)
                words = tl.load(
                    ancestors + packed_rows[:, None] * NUM_WORDS + (some_node // 32)[None, :],
                    mask=is_pair[:, None] & is_node[None, :],
                    other=0,
                )
                is_seen = (index[None, :] < num_seen[:, None]) | (((words >> (some_node % 32)[None, :]) & 1) != 0)
                if HAS_WINDOW:
                    node_rows = start + tl.maximum(index - cached, 0)
                    key_positions = tl.load(positions + node_rows, mask=is_node, other=0)
                    key_positions = tl.where(is_node, key_positions, index)
                    is_seen = is_seen & (row_positions[:, None] - key_positions[None, :] < window)
                scores = tl.where(is_seen & is_key[None, :], scores, float("-inf"))
            new_largest = tl.maximum(largest, tl.max(scores, axis=1))
            shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)  # a row may have seen no key yet
            weights = tl.exp(scores - shift[:, None])
            decay = tl.exp(largest - shift)
            value_block = tl.load(
                value_base + slots[:, None] * VALUE_DIM + value_dims[None, :],
                mask=is_key[:, None] & (value_dims < VALUE_DIM)[None, :],
                other=0.0,
            )
            total = total * decay + tl.sum(weights, axis=1)
            summed = summed * decay[:, None]
            summed += tl.dot(weights.to(value_block.dtype), value_block, input_precision=PRECISION)
            largest = new_largest

    place = packed_rows.to(tl.int64) * (tl.num_programs(1) * NUM_GROUPS) + heads
    is_value = is_pair[:, None] & (value_dims < VALUE_DIM)[None, :]
    total = tl.where(total == 0, 1.0, total)  # of a split in which a row sees nothing, or of no row at all
    result = summed / total[:, None]
    if IS_SPLIT:
        place += split.to(tl.int64) * num_rows * (tl.num_programs(1) * NUM_GROUPS)
        tl.store(log_totals + place, largest + tl.log(total), mask=is_pair)  # -inf where a row sees nothing
    tl.store(
        output + place[:, None] * VALUE_DIM + value_dims[None, :], result.to(output.dtype.element_ty), mask=is_value
    )


@triton.jit(do_not_specialize=["num_splits", "num_places"])
def join_splits(
    partial,  # (splits, T, H, VALUE_DIM) float32
    log_totals,  # (splits, T, H) float32
    output,  # (T, H, VALUE_DIM)
    num_splits,
    num_places,  # T * H
    VALUE_DIM: tl.constexpr,
    BLOCK_VALUE_DIM: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
):
    """Each split's result, weighted by its share of the sum of exp(score). One program a row and head."""
    place = tl.program_id(0).to(tl.int64)
    dims = tl.arange(0, BLOCK_VALUE_DIM)
    largest = float("-inf")
    total = 0.0
    joined = tl.zeros((BLOCK_VALUE_DIM,), tl.float32)
    for first_split in range(0, num_splits, BLOCK_SPLITS):
        splits = first_split + tl.arange(0, BLOCK_SPLITS)
        shares = tl.load(log_totals + splits * num_places + place, mask=splits < num_splits, other=float("-inf"))
        new_largest = tl.maximum(largest, tl.max(shares, axis=0))
        shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)  # windows may leave the first splits nothing
        weights = tl.exp(shares - shift)
        decay = tl.exp(largest - shift)
        results = tl.load(
            partial + (splits.to(tl.int64) * num_places + place)[:, None] * VALUE_DIM + dims[None, :],
            mask=(weights > 0)[:, None] & (dims < VALUE_DIM)[None, :],
            other=0.0,
        )
        joined = joined * decay + tl.sum(results * weights[:, None], axis=0)
        total = total * decay + tl.sum(weights, axis=0)
        largest = new_largest
    result = (joined / total).to(output.dtype.element_ty)
    tl.store(output + place * VALUE_DIM + dims, result, mask=dims < VALUE_DIM)
