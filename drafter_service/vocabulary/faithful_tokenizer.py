"""A tokenizer that changes nothing of a text.

Tokenizers are made for whole texts: SentencePiece puts a space before them, normalizers rewrite characters, some
pre-tokenizers drop white space. The drafter continues somebody else's text, byte by byte, and must do none of that.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from draftpool.token_reader import components, is_space_replacement

_DROPS_WHITE_SPACE = {"BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit"}


def faithful_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that spells a text's inside as the tokenizer does, and neither adds to a text nor takes from it.

    Its ids and its merges are the tokenizer's; what it does not know it still cannot say. Special tokens written in a
    text are text; other added tokens are found as they stand, and swallow no white space around them.
    """
    description = json.loads(tokenizer.to_str())
    description |= {"truncation": None, "padding": None, "post_processor": None}
    description["normalizer"] = _normalizer(description["normalizer"])
    description["pre_tokenizer"] = _pre_tokenizer(description["pre_tokenizer"])
    description["model"] |= {"dropout": None} if "dropout" in description["model"] else {}
    for added in description["added_tokens"]:
        added |= {"lstrip": False, "rstrip": False, "normalized": False}
    faithful = Tokenizer.from_str(json.dumps(description))
    faithful.encode_special_tokens = True
    return faithful


def _normalizer(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    """Only what writes spaces as marks, or bytes in the byte-level alphabet: the rest rewrites or prepends."""
    parts = components(normalizer)
    return {
        "type": "Sequence",
        "normalizers": [part for part in parts if part["type"] == "ByteLevel" or is_space_replacement(part)],
    }


def _pre_tokenizer(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [_without_prefix(part) for part in components(pre_tokenizer) if not _drops_text(part)],
    }


def _without_prefix(part: dict[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "ByteLevel":
            return part | {"add_prefix_space": False}
        case "Metaspace":
            kept = {key: value for key, value in part.items() if key != "add_prefix_space"}
            return kept | {"prepend_scheme": "never"}
        case _:
            return part


def _drops_text(part: dict[str, Any]) -> bool:
    return part["type"] in _DROPS_WHITE_SPACE or part.get("behavior") == "Removed"
