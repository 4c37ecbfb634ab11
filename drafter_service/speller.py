"""From bytes to the drafter's own tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

from tokenizers import Tokenizer

from draftpool.vocabulary import Vocabulary

_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")
"""Bytes that are no text, as `surrogateescape` decodes them."""


class Speller:
    """Writes bytes in the drafter's tokens; any bytes, no byte lost that the vocabulary has a token for."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "<eos>" in a text is text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._id_of_bytes = ids_by_bytes(vocabulary)
        self._longest = max(map(len, self._id_of_bytes), default=0)

    def spell(self, text: bytes) -> list[int]:
        """The tokenizer's own spelling of what is UTF-8, the longest matching tokens for the rest."""
        runs = _NOT_UTF8.split(text.decode("utf-8", "surrogateescape"))
        return list(chain.from_iterable(self._spell_run(run) for run in runs if run))

    def _spell_run(self, run: str) -> Sequence[int]:
        data = run.encode("utf-8", "surrogateescape")
        if not _NOT_UTF8.match(run):
            ids: list[int] = self._tokenizer.encode(run, add_special_tokens=False).ids
            if self._says(ids) == data:  # a normaliser may change the text, an unknown character lose it
                return ids
        return self._longest_matches(data)

    def _says(self, ids: Iterable[int]) -> bytes:
        return b"".join(self.vocabulary.token_bytes[token_id] for token_id in ids)

    def _longest_matches(self, data: bytes) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(data):
            for end in range(min(start + self._longest, len(data)), start, -1):
                token_id = self._id_of_bytes.get(data[start:end])
                if token_id is not None:
                    ids.append(token_id)
                    start = end
                    break
            else:
                start += 1  # a byte that the drafter has no token for
        return ids


def ids_by_bytes(vocabulary: Vocabulary) -> dict[bytes, int]:
    """Token ids by what they say, special tokens left out.

    Of several tokens that say the same, the last one: SentencePiece vocabularies start with 256 byte tokens that are
    used only where no real token fits.
    """
    eos_ids = set(vocabulary.eos_token_ids)
    return {
        token: token_id for token_id, token in enumerate(vocabulary.token_bytes) if token and token_id not in eos_ids
    }
