"""What token ids stand for, as bytes: the common ground of two tokenizers.

The byte string of a token is what it adds to the text. Two tokenizers agree on a token when their byte
strings are equal, whatever their ids; that is all that the vocabulary bridge of the drafter needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from draftpool.errors import ModelNotServable
from draftpool.token_reader import is_byte_level, token_reader


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

        Joined, the byte strings of a text's tokens are what the tokenizer decodes without special tokens, plus the
        spaces that it puts before a text and takes away again.

        Special tokens and the unknown token are empty: neither is text. Other added tokens say their content, whatever
        they swallow around them (`lstrip`, `rstrip`) or match (`normalized`).

        Args:
            vocab_size: V, of the model; ids that the tokenizer lacks stand for nothing.

        Raises:
            ModelNotServable: it is no tokenizer, the bytes of its tokens cannot be known, or it has ids beyond the
                model's.
        """
        tokenizer = _parsed(tokenizer_json)
        read = token_reader(tokenizer)
        entries = _entries(tokenizer["model"])
        added_tokens = tokenizer.get("added_tokens") or []
        model_ids = dict(entries)
        in_model_only = model_ids.keys() - {added["content"] for added in added_tokens}
        largest_id = max((model_ids[token] for token in in_model_only), default=0)
        if largest_id >= vocab_size:
            raise ModelNotServable(
                f"the tokenizer has token id {largest_id}, the model only {vocab_size} ids; they do not match"
            )
        said = {token_id: read(token) for token, token_id in entries}
        has_alphabet = is_byte_level(tokenizer)
        for added in added_tokens:
            is_plain = has_alphabet and added["content"] not in model_ids  # the model's are written in the alphabet
            content = added["content"].encode() if is_plain else read(added["content"])
            said[added["id"]] = b"" if added["special"] else content
        said |= dict.fromkeys(_unknown_ids(tokenizer["model"], model_ids), b"")
        return cls(tuple(said.get(token_id, b"") for token_id in range(vocab_size)), tuple(eos_token_ids))


def _parsed(tokenizer_json: str) -> dict[str, Any]:
    try:
        tokenizer = json.loads(tokenizer_json)
    except json.JSONDecodeError as error:
        raise ModelNotServable(f"the tokenizer.json is no JSON: {error}") from error
    if not isinstance(tokenizer, dict) or "vocab" not in (tokenizer.get("model") or {}):
        raise ModelNotServable("the tokenizer.json describes no model with a vocabulary")
    return tokenizer


def _entries(model: dict[str, Any]) -> list[tuple[str, int]]:
    """(token, id) of the tokenizer's model: BPE lists a mapping, Unigram a list of pieces."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        return list(vocab.items())
    return [(piece, token_id) for token_id, (piece, _) in enumerate(vocab)]


def _unknown_ids(model: dict[str, Any], model_ids: dict[str, int]) -> list[int]:
    """The id that stands for whatever the tokenizer does not know."""
    if isinstance(model.get("unk_id"), int):
        return [model["unk_id"]]
    return [model_ids[model["unk_token"]]] if model.get("unk_token") in model_ids else []
