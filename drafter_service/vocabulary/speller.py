"""From bytes to the drafter's own tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from tokenizers import Encoding, Tokenizer

from drafter_service.vocabulary.faithful_tokenizer import faithful_tokenizer
from draftpool.vocabulary import Vocabulary

_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")
"""Bytes that are no text, as `surrogateescape` decodes them."""

_ALL_BYTES = tuple(bytes([byte]) for byte in range(256))


class Speller:
    """Writes bytes in the drafter's tokens; any bytes, no byte lost that the vocabulary has a token for.

    The tokens say the bytes and nothing else: no space is put before them, as tokenizers do at the start of a text.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        self.vocabulary = vocabulary
        self._tokenizer = faithful_tokenizer(tokenizer)
        eos_ids = set(vocabulary.eos_token_ids)  # an end is no text, even where it is no special token
        self._token_bytes = {i: token for i, token in enumerate(vocabulary.token_bytes) if i not in eos_ids}
        self._longest_match = LongestMatch(ids_by_bytes(vocabulary))

    def spell(self, text: bytes) -> list[int]:
        """The tokenizer's own spelling of what is UTF-8, the longest matching tokens for the rest."""
        runs = _NOT_UTF8.split(text.decode("utf-8", "surrogateescape"))
        return list(chain.from_iterable(self._spell_run(run) for run in runs if run))

    def _spell_run(self, run: str) -> Sequence[int]:
        data = run.encode("utf-8", "surrogateescape")
        if _NOT_UTF8.match(run):
            return self._longest_match.spell(data)
        encoding = self._tokenizer.encode(run, add_special_tokens=False)
        return encoding.ids if self._says(encoding.ids) == data else self._mended(run, encoding)

    def _mended(self, text: str, encoding: Encoding) -> list[int]:
        """A spelling that does not say the text, with those parts spelled anew: what is unknown, or reads as a mark."""
        mended: list[int] = []
        ids: list[int] = []
        start = end = 0
        for token_id, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
            if first >= end and ids:  # tokens that share a character are judged together
                mended += self._checked(text[start:end].encode(), ids)
                start, ids = end, []
            ids.append(token_id)
            end = max(end, last)
        return mended + self._checked(text[start:].encode(), ids)

    def _checked(self, data: bytes, ids: list[int]) -> list[int]:
        return ids if self._says(ids) == data else self._longest_match.spell(data)

    def _says(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._token_bytes.get(token_id, b"") for token_id in ids)  # a tokenizer may have more ids


class LongestMatch:
    """Spells bytes from left to right, each time with the longest token that fits; what no token fits is left out.

    Only lengths are tried that a token with the same two first bytes has, so that the time hardly depends on how long
    the longest token is.
    """

    def __init__(self, id_of_bytes: Mapping[bytes, int]) -> None:
        self._id_of_bytes = id_of_bytes
        lengths: dict[bytes, set[int]] = {}
        for token in id_of_bytes:
            lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {beginning: sorted(found, reverse=True) for beginning, found in lengths.items()}

    def spell(self, data: bytes) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(data):
            token = self._first_token(data, start)
            if token:
                ids.append(self._id_of_bytes[token])
            start += len(token) or 1
        return ids

    def _first_token(self, data: bytes, start: int) -> bytes:
        """The longest token that the data has at a place; empty where there is none."""
        for length in self._lengths.get(data[start : start + 2], ()):
            token = data[start : start + length]
            if token in self._id_of_bytes:
                return token
        return data[start : start + 1] if data[start : start + 1] in self._id_of_bytes else b""


def ids_by_bytes(vocabulary: Vocabulary) -> dict[bytes, int]:
    """Token ids by what they say, special tokens left out.

    Of several tokens that say the same, the last one; of SentencePiece's byte tokens one only where there is no other,
    as they are used only where no real token fits (Gemma's newline comes before them, its letters after).
    """
    byte_tokens = _byte_token_ids(vocabulary)
    ids = {vocabulary.token_bytes[token_id]: token_id for token_id in byte_tokens}
    skipped = {*byte_tokens, *vocabulary.eos_token_ids}
    return ids | {
        token: token_id for token_id, token in enumerate(vocabulary.token_bytes) if token and token_id not in skipped
    }


def _byte_token_ids(vocabulary: Vocabulary) -> range:
    """The 256 ids in a row that say the bytes in order, as SentencePiece writes them; empty where there are none."""
    for start, token in enumerate(vocabulary.token_bytes):
        if token == b"\x00" and vocabulary.token_bytes[start : start + 256] == _ALL_BYTES:
            return range(start, start + 256)
    return range(0)
