"""What token ids stand for, as bytes: the common ground of two tokenizers.

The byte string of a token is what it adds to the text. Two tokenizers agree on a token when their byte
strings are equal, whatever their ids; that is all that the vocabulary bridge of the drafter needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from draftpool.errors import ModelNotServable

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one target.

    Attributes:
        token_bytes: V byte strings; empty for special tokens and for ids that stand for nothing.
        eos_token_ids: ids that end a text.
    """

    token_bytes: tuple[bytes, ...]
    eos_token_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.token_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, lower-case hex, over little-endian uint32: V, the V lengths, then all bytes, then the eos ids."""
        digest = hashlib.sha256()
        digest.update(np.array([len(self)], dtype="<u4").tobytes())
        digest.update(np.array([len(token) for token in self.token_bytes], dtype="<u4").tobytes())
        digest.update(b"".join(self.token_bytes))
        digest.update(np.array(self.eos_token_ids, dtype="<u4").tobytes())
        return digest.hexdigest()

    @classmethod
    def from_tokenizer_json(cls, tokenizer_json: str, *, vocab_size: int, eos_token_ids: Sequence[int]) -> Vocabulary:
        """Read the byte strings out of a Hugging Face `tokenizer.json`.

        Byte-level tokenizers (GPT-2, Llama 3, Qwen) and SentencePiece-style ones (a space mark, byte tokens
        like <0x0A>; Llama 2, Gemma) are understood.

        Args:
            vocab_size: V, of the model; ids that the tokenizer lacks stand for nothing.

        Raises:
            ModelNotServable: the tokenizer is of neither kind, or has ids beyond the model's.
        """
        description = json.loads(tokenizer_json)
        to_bytes = _token_decoder(description)
        token_bytes = [b""] * vocab_size
        added_ids = {added["id"] for added in description.get("added_tokens") or []}
        for token, token_id in _entries(description):
            if token_id in added_ids:  # stands for its own text, not for the alphabet's bytes
                continue
            if token_id >= vocab_size:
                raise ModelNotServable(
                    f"the tokenizer has token id {token_id}, the model only {vocab_size} ids; they do not match"
                )
            token_bytes[token_id] = to_bytes(token)
        for added in description.get("added_tokens") or []:
            if added["id"] < vocab_size:
                token_bytes[added["id"]] = b"" if added["special"] else added["content"].encode()
        return cls(tuple(token_bytes), tuple(eos_token_ids))


def _entries(description: dict[str, Any]) -> list[tuple[str, int]]:
    """(token, id) of the tokenizer's model: BPE and WordPiece list a mapping, Unigram a list of pieces."""
    vocab = description["model"]["vocab"]
    if isinstance(vocab, dict):
        return list(vocab.items())
    return [(piece, token_id) for token_id, (piece, _) in enumerate(vocab)]


def _token_decoder(description: dict[str, Any]) -> Any:
    kinds = set(_component_types(description.get("decoder")))
    if "ByteLevel" in kinds:
        return _byte_level_bytes
    if kinds & {"ByteFallback", "Metaspace"} or _SPACE_MARK in json.dumps(
        description.get("decoder"), ensure_ascii=False
    ):
        return _sentencepiece_bytes
    raise ModelNotServable(
        f"the tokenizer's decoder ({', '.join(sorted(kinds)) or 'none'}) is neither byte-level nor "
        "SentencePiece-style; the byte strings of its tokens cannot be known"
    )


def _component_types(component: dict[str, Any] | None) -> list[str]:
    if component is None:
        return []
    parts = component.get("decoders") or []
    return [component["type"], *(kind for part in parts for kind in _component_types(part))]


def _sentencepiece_bytes(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes.fromhex(match[1])
    return token.replace(_SPACE_MARK, " ").encode()


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF_CHARACTER[character] for character in token)
    except KeyError as error:
        raise ModelNotServable(f"the token {token!r} has {error}, which no byte-level alphabet has") from None


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for code points from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()
