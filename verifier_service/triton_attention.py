"""Tree attention over pages on CUDA, by the kernels of `verifier_service.triton_kernels`.

`verifier_service.paged_attention` computes the same in torch operators. Needs Triton, which comes with torch's CUDA
builds; `TRITON_INTERPRET=1` in the environment lets the kernels run on a CPU, for tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier_service.attention import AttentionOptions
from verifier_service.kv_store import KvStore
from verifier_service.pass_tensors import PassShape, PassTensors
from verifier_service.triton_kernels import attend_tiles, join_splits

_SHARED_BYTES = 96 * 1024
"""Of a program's tiles: what the smaller of today's GPUs allow, and two programs a processor on the larger ones."""

_NUM_STAGES = 2
"""Blocks of keys and values in flight."""

_MAX_PAIRS = 128
_MAX_KEYS_A_STEP = 64
_SMALLEST_TILE = 16
"""Of what tensor cores multiply."""

_PROGRAMS_A_PROCESSOR = 2
_MIN_KEYS_A_SPLIT = 128
_SPLITS_AT_ONCE = 32


@dataclass(frozen=True)
class TileShape:
    """How one program's work is cut.

    Attributes:
        num_pairs: of a row and a query head, a power of two.
        num_rows: of the pass, whose heads fit in the pairs.
        num_keys: of one step.
    """

    num_pairs: int
    num_rows: int
    num_keys: int

    @property
    def num_warps(self) -> int:
        return 8 if self.num_pairs > 64 else 4


def choose_tile(num_groups: int, typical_rows: int, num_bytes_a_key: int, num_bytes_a_query: int) -> TileShape:
    """As many rows as a segment has, as far as their tiles fit in shared memory. Pure.

    Args:
        num_groups: query heads to a key-value head.
        num_bytes_a_key: of a key and its value, padded to the kernel's blocks.
        num_bytes_a_query: likewise.
    """
    fewest = max(_SMALLEST_TILE, _power_of_two(num_groups))
    num_pairs = max(fewest, min(_power_of_two(num_groups * typical_rows), _MAX_PAIRS))
    num_keys = _MAX_KEYS_A_STEP

    def is_too_large() -> bool:
        return num_pairs * num_bytes_a_query + num_keys * num_bytes_a_key * _NUM_STAGES > _SHARED_BYTES

    while is_too_large() and num_keys > _SMALLEST_TILE:
        num_keys //= 2
    while is_too_large() and num_pairs > fewest:
        num_pairs //= 2
    return TileShape(num_pairs, num_pairs // num_groups, num_keys)


def choose_num_splits(num_programs: int, max_keys: int, num_processors: int) -> int:
    """Among how many programs the keys of each are divided, so that all processors are busy. Pure."""
    wanted = -(-num_processors * _PROGRAMS_A_PROCESSOR // num_programs)
    return max(1, min(wanted, -(-max_keys // _MIN_KEYS_A_SPLIT)))


class TritonAttention:
    """The attention of one pass; see `verifier_service.attention.Attention`.

    Args:
        num_processors: of the device, to be kept busy; asked of the device without it.
    """

    def __init__(self, store: KvStore, tensors: PassTensors, *, num_processors: int | None = None) -> None:
        self._store = store
        self._tensors = tensors
        self._num_processors = num_processors

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        tensors = self._tensors.on(query.device)
        self._store.write(layer, tensors.new_slots, key[0], value[0])
        num_processors = self._num_processors or _num_processors(query.device)
        # Triton launches on the current device, which need not be the layer's.
        with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
            return attend_pages(query[0], self._store, layer, tensors, options, num_processors)[None]


def attend_pages(
    query: Tensor, store: KvStore, layer: int, tensors: PassTensors, options: AttentionOptions, num_processors: int
) -> Tensor:
    """Attention of a pass whose keys and values are in the store.

    Args:
        query: (num_heads, T, key_dim).
        num_processors: of the device, to be kept busy.

    Returns:
        (T, num_heads, value_dim).
    """
    query = query if query.stride(-1) == 1 else query.contiguous()
    keys, values = store.keys[layer], store.values[layer]
    shape, (num_heads, num_rows, key_dim) = tensors.shape, query.shape
    num_kv_heads, value_dim = keys.shape[0], values.shape[2]
    num_groups = num_heads // num_kv_heads
    block_key_dim, block_value_dim = (max(_SMALLEST_TILE, _power_of_two(dim)) for dim in (key_dim, value_dim))
    tile = choose_tile(
        num_groups,
        shape.typical_rows,
        (block_key_dim + block_value_dim) * query.element_size(),
        block_key_dim * query.element_size(),
    )
    num_splits = choose_num_splits(_num_busy_tiles(shape, tile) * num_kv_heads, shape.max_keys, num_processors)
    is_split = num_splits > 1
    output = query.new_empty(num_rows, num_heads, value_dim)
    partial = output.new_empty(num_splits, *output.shape, dtype=torch.float32) if is_split else output
    log_totals = partial.new_empty(num_splits, num_rows, num_heads) if is_split else partial
    attend_tiles[(_num_tiles(shape, tile), num_kv_heads, num_splits)](
        query,
        keys,
        values,
        query if options.sinks is None else options.sinks,
        partial,
        log_totals,
        tensors.starts,
        tensors.num_cached,
        tensors.num_committed,
        tensors.first_pages,
        tensors.pages,
        tensors.positions,
        tensors.ancestors,
        shape.num_segments,
        num_rows,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        values.stride(0),
        float(options.scaling),
        float(options.softcap or 1.0),
        options.window or 0,
        HAS_SOFTCAP=options.softcap is not None,
        HAS_WINDOW=options.window is not None,
        HAS_SINKS=options.sinks is not None,
        IS_SPLIT=is_split,
        NUM_GROUPS=num_groups,
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        PAGE_TOKENS=store.page_tokens,
        NUM_WORDS=shape.num_words,
        TILE_ROWS=tile.num_rows,
        BLOCK_M=tile.num_pairs,
        BLOCK_N=tile.num_keys,
        BLOCK_KEY_DIM=block_key_dim,
        BLOCK_VALUE_DIM=block_value_dim,
        BLOCK_SEGMENTS=max(64, _power_of_two(shape.num_segments)),
        # Else Triton multiplies float32 with the precision of tf32, 10 bits.
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=tile.num_warps,
        num_stages=_NUM_STAGES,
    )
    if is_split:
        join_splits[(num_rows * num_heads,)](
            partial,
            log_totals,
            output,
            num_splits,
            num_rows * num_heads,
            VALUE_DIM=value_dim,
            BLOCK_VALUE_DIM=block_value_dim,
            BLOCK_SPLITS=min(_power_of_two(num_splits), _SPLITS_AT_ONCE),
            num_warps=4,
        )
    return output


def _num_tiles(shape: PassShape, tile: TileShape) -> int:
    """Enough for any segments of a pass of this shape, see `verifier_service.triton_kernels`."""
    return shape.num_rows // tile.num_rows + shape.num_segments


def _num_busy_tiles(shape: PassShape, tile: TileShape) -> int:
    """Those that have rows, where segments are of the typical size."""
    return -(-shape.num_rows // shape.typical_rows) * -(-shape.typical_rows // tile.num_rows)


def _power_of_two(number: int) -> int:
    """The smallest that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _num_processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
