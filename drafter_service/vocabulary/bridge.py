"""The vocabulary bridge: one drafter, targets with other tokenizers.

Tokens are matched by their bytes. The drafter proposes only tokens that the target has too; what the target says
outside that intersection is spelled with the drafter's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from drafter_service.vocabulary.lexicon import Lexicon, spelling_of
from drafter_service.vocabulary.speller import Speller, ids_by_bytes
from draftpool.errors import TokenOutOfVocabulary
from draftpool.vocabulary import Vocabulary

_UNMATCHED = -1


class VocabularyBridge:
    """Between the drafter's ids and one target's.

    Attributes:
        target: the target's vocabulary.
        is_same: whether it is the drafter's too.
        spelled: how drafter tokens become target tokens: each is one, or is spelled with several.
        shared: the same without spelling: a drafter token that is no token of the target cannot be drafted. What other
            systems do, and what sampling without replacement needs.
        num_shared_tokens: tokens that both have.
    """

    def __init__(self, speller: Speller, target: Vocabulary) -> None:
        drafter = speller.vocabulary
        self.target = target
        self._speller = speller
        self.is_same = drafter.fingerprint == target.fingerprint
        target_ids = list(range(len(drafter))) if self.is_same else _match(drafter, target)
        self.num_shared_tokens = len(target_ids) - target_ids.count(_UNMATCHED)
        self._drafter_ids_of: dict[int, tuple[int, ...]] = {
            target_id: (drafter_id,) for drafter_id, target_id in enumerate(target_ids) if target_id != _UNMATCHED
        }
        matched = [() if target_id == _UNMATCHED else (target_id,) for target_id in target_ids]
        self.shared = Lexicon(drafter, target, matched, {}, is_same=self.is_same)
        self.spelled = self.shared if self.is_same else _spelled(drafter, target, matched)

    def require_known(self, target_token_ids: Sequence[int]) -> None:
        """Raises TokenOutOfVocabulary."""
        if target_token_ids and not 0 <= min(target_token_ids) <= max(target_token_ids) < len(self.target):
            raise TokenOutOfVocabulary(
                f"token ids must be 0 to {len(self.target) - 1} for this vocabulary, "
                f"got {min(target_token_ids)} to {max(target_token_ids)}"
            )

    def context_ids(self, target_token_ids: Sequence[int]) -> list[int]:
        """A first context in the drafter's tokens, at least one: the whole text as the drafter's tokenizer has it.

        An end of text stays one; other special tokens say nothing to the drafter and are left out.
        """
        return self.text_ids(target_token_ids) or self._eos or [0]

    def text_ids(self, target_token_ids: Sequence[int]) -> list[int]:
        """A text, or its end, as the drafter's tokenizer has it; empty where it says nothing to the drafter."""
        if self.is_same:
            return list(target_token_ids)
        ids: list[int] = []
        text: list[bytes] = []
        for token_id in target_token_ids:
            if token_id in self.target.eos_token_ids:
                ids += self._speller.spell(b"".join(text)) + self._eos
                text.clear()
            else:
                text.append(self.target.token_bytes[token_id])
        return ids + self._speller.spell(b"".join(text))

    def begins_word(self, target_token_id: int) -> bool:
        """Whether a token begins with a space, or follows from nothing: tokenizers hardly ever reach across that."""
        text = self.target.token_bytes[target_token_id]
        return text[:1].isspace() or not text

    def continuation_ids(self, target_token_id: int) -> tuple[int, ...]:
        """One committed token in the drafter's tokens.

        Depends on that token alone, so that the drafter's state does not depend on how rounds cut the text.
        """
        known = self._drafter_ids_of.get(target_token_id)
        if known is None:
            is_eos = target_token_id in self.target.eos_token_ids
            known = tuple(self._eos if is_eos else self._speller.spell(self.target.token_bytes[target_token_id]))
            self._drafter_ids_of[target_token_id] = known
        return known

    @property
    def _eos(self) -> list[int]:
        return list(self._speller.vocabulary.eos_token_ids[:1])


def _match(drafter: Vocabulary, target: Vocabulary) -> list[int]:
    target_ids = [_UNMATCHED] * len(drafter)
    target_id_of_bytes = ids_by_bytes(target)
    for token, drafter_id in ids_by_bytes(drafter).items():
        target_ids[drafter_id] = target_id_of_bytes.get(token, _UNMATCHED)
    # Each only once: two drafter tokens with one target id would make siblings that are the same token.
    eos_pairs = zip(dict.fromkeys(drafter.eos_token_ids), dict.fromkeys(target.eos_token_ids), strict=False)
    for drafter_id, target_id in eos_pairs:
        target_ids[drafter_id] = target_id
    return target_ids


def _spelled(drafter: Vocabulary, target: Vocabulary, matched: Sequence[tuple[int, ...]]) -> Lexicon:
    """The lexicon in which tokens that are not shared are spelled, the drafter's by the target's and the reverse."""
    target_id_of = ids_by_bytes(target)
    longest = max(map(len, target_id_of), default=0)
    spellings = [
        known or spelling_of(text, target_id_of, longest)
        for known, text in zip(matched, drafter.token_bytes, strict=True)
    ]
    shared = {target_id for known in matched for target_id in known}
    unshared = {text: target_id for text, target_id in target_id_of.items() if target_id not in shared}
    return Lexicon(drafter, target, spellings, unshared, is_same=False)
