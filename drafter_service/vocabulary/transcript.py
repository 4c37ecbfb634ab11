"""The end of a text in the drafter's own spelling, which may change while the text goes on. Pure.

A drafter is trained on text as its tokenizer spells it. Another tokenizer cuts a text elsewhere, and its tokens spelled
one by one are not what the drafter knows: " num" and "ber", where it has learned " number". So the end of a text is
spelled anew with every token that comes, and what cannot change any more is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MAX_TAIL_TOKENS = 16
"""A tail that grows longer is settled up to its last good place: that costs one short prefill, and so does spelling it
anew."""

_MIN_TAIL_TOKENS = 4

Spelling = Callable[[Sequence[int]], list[int]]
"""From tokens of the target to those of the drafter, spelled together."""


class Transcript:
    """What has not been settled yet.

    Attributes:
        ids: the tail in the drafter's tokens.

    Args:
        spell: see `VocabularyBridge.text_ids`.
        begins_word: whether a target token is a place where spellings do not depend on what stands before.
    """

    def __init__(self, spell: Spelling, begins_word: Callable[[int], bool]) -> None:
        self._spell = spell
        self._begins_word = begins_word
        self._tail: list[int] = []
        self.ids: list[int] = []

    def commit(self, target_ids: Sequence[int]) -> None:
        """Add tokens of the target."""
        self._tail += target_ids
        self.ids = self._spell(self._tail)

    def settle(self) -> list[int]:
        """Shorten a tail that has become long; at least one drafter token stays.

        Returns:
            The drafter tokens that are settled; none where the tail is short, or has no good place.
        """
        if len(self._tail) <= _MAX_TAIL_TOKENS:
            return []
        for place in range(len(self._tail) - _MIN_TAIL_TOKENS, 0, -1):
            if self._begins_word(self._tail[place]):
                settled, rest = self._spell(self._tail[:place]), self._spell(self._tail[place:])
                if rest and settled + rest == self.ids:
                    del self._tail[:place]
                    self.ids = rest
                    return settled
        return []
