"""The layout of a pass as tensors of fixed sizes, for attention that reads block tables on the device.

All integers of a pass travel in one copy. Their places depend on the pass's `PassShape` alone, so a pass recorded once
over the same memory can be replayed with other contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from draftpool.tree import ROOT
from verifier_service.packing import PassLayout, Segment
from verifier_service.transfer import to_device

WORD_BITS = 32

WordArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PassShape:
    """The sizes of a pass; several passes may share one, each smaller or as large.

    Attributes:
        num_rows: T.
        num_segments: B; those a pass lacks have no rows.
        num_logit_rows: R.
        num_words: W, of 32 nodes each.
        num_pages: N, of all segments together.
        max_keys: no segment has more; grids are chosen for it, nothing is read for it.
        typical_rows: of a segment; tiles are chosen for it, any number of rows is computed.
    """

    num_rows: int
    num_segments: int
    num_logit_rows: int
    num_words: int
    num_pages: int
    max_keys: int
    typical_rows: int

    @property
    def sections(self) -> tuple[int, ...]:
        """Lengths of the parts of the flat tensor, in order; the pages come last, for a pass rarely needs all N."""
        num_rows, num_segments = self.num_rows, self.num_segments
        by_row = (num_rows, num_rows, num_rows, self.num_logit_rows)
        by_segment = (num_segments + 1, num_segments, num_segments, num_segments)
        return (*by_row, *by_segment, num_rows * self.num_words, self.num_pages)

    @staticmethod
    def of(layout: PassLayout) -> PassShape:
        """That fits one pass exactly."""
        return PassShape(
            num_rows=len(layout.token_ids),
            num_segments=len(layout.segments),
            num_logit_rows=len(layout.logit_rows),
            num_words=max(1, *(num_words_for(len(segment.parents)) for segment in layout.segments)),
            num_pages=sum(len(segment.pages) for segment in layout.segments),
            max_keys=max(segment.num_keys for segment in layout.segments),
            typical_rows=max(segment.num_rows for segment in layout.segments),
        )


def num_words_for(num_nodes: int) -> int:
    """Of 32 bits, for one bit a node."""
    return -(-num_nodes // WORD_BITS)


@lru_cache(maxsize=256)
def ancestor_words(parents: tuple[int, ...], num_words: int) -> WordArray:
    """(n, W): node j is an ancestor of node i, or i itself, where bit j % 32 of word j // 32 of row i is set."""
    masks: list[int] = []
    for node, parent in enumerate(parents):
        masks.append((0 if parent == ROOT else masks[parent]) | 1 << node)
    packed = b"".join(mask.to_bytes(num_words * 4, "little") for mask in masks)
    return np.frombuffer(packed, dtype="<i4").reshape(len(parents), num_words)


def lay_out(layout: PassLayout, shape: PassShape, page_tokens: int) -> WordArray:
    """A pass's integers, as far as it has any: the pages that it lacks of N are left off.

    Args:
        layout: T rows and R logit rows; at most B segments, W words and N pages.
    """
    segments = layout.segments
    missing = [0] * (shape.num_segments - len(segments))
    num_pages = [len(segment.pages) for segment in segments]
    parts: list[Sequence[int] | npt.NDArray[np.signedinteger]] = [
        layout.token_ids,
        layout.positions,
        np.concatenate([segment.slots(page_tokens) for segment in segments]),
        layout.logit_rows,
        [segment.start for segment in segments] + [shape.num_rows] * (len(missing) + 1),
        [segment.num_cached for segment in segments] + missing,
        [segment.num_committed for segment in segments] + missing,
        [0, *np.cumsum(num_pages[:-1]).tolist(), *missing],
        _visible_nodes(segments, shape).reshape(-1),
        np.concatenate([np.array(segment.pages, dtype=np.int32) for segment in segments]),
    ]
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])


def _visible_nodes(segments: Sequence[Segment], shape: PassShape) -> WordArray:
    """(T, W): the nodes that each row sees of its own tree; committed rows see none."""
    words = np.zeros((shape.num_rows, shape.num_words), dtype=np.int32)
    for segment in segments:
        if segment.parents:
            words[segment.start + segment.num_committed : segment.stop] = ancestor_words(
                segment.parents, shape.num_words
            )
    return words


@dataclass(frozen=True)
class PassTensors:
    """A pass on one device.

    Attributes:
        token_ids, positions, new_slots: (T,) int64; where each row's keys and values go.
        logit_rows: (R,) int64.
        starts: (B + 1,) int32, the first row of each segment, and T.
        num_cached, num_committed, first_pages: (B,) int32; of a segment, and where in `pages` its own begin.
        ancestors: (T, W) int32, see `ancestor_words`.
        pages: (N,) int32, the segments' block tables, one after the other.
    """

    shape: PassShape
    flat: Tensor
    token_ids: Tensor
    positions: Tensor
    new_slots: Tensor
    logit_rows: Tensor
    starts: Tensor
    num_cached: Tensor
    num_committed: Tensor
    first_pages: Tensor
    ancestors: Tensor
    pages: Tensor
    _elsewhere: dict[torch.device, PassTensors] = field(default_factory=dict)

    @staticmethod
    def over(flat: Tensor, shape: PassShape) -> PassTensors:
        """Views of flat int32 (at least the sections' sum,), and int64 copies of what indexes tensors."""
        sections = list(shape.sections)
        parts = torch.split(flat[: sum(sections)], sections)
        indices = torch.split(flat[: sum(sections[:4])].long(), sections[:4])
        ancestors = parts[8].view(shape.num_rows, shape.num_words)
        token_ids, positions, new_slots, logit_rows = indices
        starts, num_cached, num_committed, first_pages = parts[4:8]
        return PassTensors(
            shape=shape,
            flat=flat,
            token_ids=token_ids,
            positions=positions,
            new_slots=new_slots,
            logit_rows=logit_rows,
            starts=starts,
            num_cached=num_cached,
            num_committed=num_committed,
            first_pages=first_pages,
            ancestors=ancestors,
            pages=parts[9],
        )

    @staticmethod
    def of(layout: PassLayout, page_tokens: int, device: torch.device) -> PassTensors:
        """One pass, brought to the device by one copy that nothing waits for."""
        shape = PassShape.of(layout)
        return PassTensors.over(to_device(torch.from_numpy(lay_out(layout, shape, page_tokens)), device), shape)

    def on(self, device: torch.device) -> PassTensors:
        """The same on the device of a layer; copied once a pass."""
        if device == self.flat.device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = PassTensors.over(self.flat.to(device, non_blocking=True), self.shape)
        return self._elsewhere[device]
