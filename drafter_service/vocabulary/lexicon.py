"""What each drafter token says in a target's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from draftpool.vocabulary import Vocabulary

_NO_BYTES = b""


class Lexicon:
    """From drafter tokens to the target's. Made once for each target, or two: with and without spelling.

    Attributes:
        target: its vocabulary.
        is_same: whether drafter and target have one vocabulary: every token is the same token there.
        first_ids: (V_drafter,) int64, the first target id of every drafter token, 0 where there is none; None when
            `is_same`.
        mask: (V_drafter,) float32, 0, or -inf for tokens that the target cannot say; None when it can say all.

    Args:
        spellings: of every drafter token the target ids that say the same, in order; empty where none do.
        unshared_ids: by what they say, the target tokens that no drafter token equals.
    """

    def __init__(
        self,
        drafter: Vocabulary,
        target: Vocabulary,
        spellings: Sequence[tuple[int, ...]],
        unshared_ids: Mapping[bytes, int],
        *,
        is_same: bool,
    ) -> None:
        self.target = target
        self.is_same = is_same
        self._drafter = drafter
        self._spellings = spellings
        self._unshared_ids = unshared_ids
        is_mute = torch.tensor([not spelling for spelling in spellings])
        first_ids = torch.tensor([spelling[0] if spelling else 0 for spelling in spellings])
        self.first_ids = None if is_same else first_ids
        has_mute = bool(is_mute.any())
        self.mask: Tensor | None = torch.zeros(len(drafter)).masked_fill(is_mute, -torch.inf) if has_mute else None

    def spelling(self, drafter_id: int) -> tuple[int, ...]:
        """The target's tokens for one drafter token."""
        return self._spellings[drafter_id]

    def drafter_bytes(self, drafter_id: int) -> bytes:
        return self._drafter.token_bytes[drafter_id]

    def target_bytes(self, target_id: int) -> bytes:
        return self.target.token_bytes[target_id]

    def unshared_id(self, text: bytes) -> int | None:
        """The target token that says this, if the drafter has none that does."""
        return self._unshared_ids.get(text)


def spelling_of(text: bytes, ids: Mapping[bytes, int], longest: int) -> tuple[int, ...]:
    """The longest matching tokens for a text, from its beginning; empty where some of it cannot be said.

    Args:
        ids: tokens by what they say.
        longest: the length of the longest of them, in bytes.
    """
    found: list[int] = []
    start = 0
    while start < len(text):
        for end in range(min(start + longest, len(text)), start, -1):
            token_id = ids.get(text[start:end])
            if token_id is not None:
                found.append(token_id)
                start = end
                break
        else:
            return ()
    return tuple(found)
