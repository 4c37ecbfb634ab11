"""Which replica was last sent a prompt's beginning, and so likely holds its pages. Pure, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

BLOCK_TOKENS = 32
"""Beginnings are compared in steps of so many tokens: two of the verifier's pages, which only count when full."""
_MAX_BLOCKS = 65_536

OwnerT = TypeVar("OwnerT")


class PrefixIndex(Generic[OwnerT]):
    """Owners by the beginnings of texts, least recently used blocks forgotten first.

    A block is known by a hash over its tokens and the hash of the block before it, so that it stands for the whole
    text up to its end. Hashes that collide cost a wrong guess, never a wrong token. No block is younger
    than the one before it, so the end of a text is forgotten before its beginning, as by verifiers.
    """

    def __init__(self, max_blocks: int = _MAX_BLOCKS) -> None:
        self._owners: OrderedDict[int, OwnerT] = OrderedDict()
        self._max_blocks = max_blocks

    def __len__(self) -> int:
        """Blocks that it remembers, at most `max_blocks`."""
        return len(self._owners)

    def longest_match(self, token_ids: Sequence[int], among: Container[OwnerT]) -> OwnerT | None:
        """Which of some owners was last sent the longest known beginning of a text; None where none of them was."""
        match: OwnerT | None = None
        for block in _blocks(token_ids):
            if block not in self._owners:
                break
            owner = self._owners[block]
            if owner in among:
                match = owner
        return match

    def record(self, token_ids: Sequence[int], owner: OwnerT) -> None:
        """Remember that a text is sent there. Of a text longer than the index, the beginning is kept."""
        for block in reversed(list(islice(_blocks(token_ids), self._max_blocks))):
            self._owners[block] = owner
            self._owners.move_to_end(block)
        while len(self._owners) > self._max_blocks:
            self._owners.popitem(last=False)


def _blocks(token_ids: Sequence[int]) -> Iterator[int]:
    """The hashes of a text's full blocks, first to last."""
    block = 0
    for end in range(BLOCK_TOKENS, len(token_ids) + 1, BLOCK_TOKENS):
        block = hash((block, *token_ids[end - BLOCK_TOKENS : end]))
        yield block
