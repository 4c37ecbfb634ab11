"""From a token, as a Hugging Face `tokenizer.json` writes it, to the bytes that it adds to a text.

Only tokenizers whose tokens say the same wherever they stand can be read: byte-level ones (GPT-2, NeoX, Llama 3, Qwen),
and those that write a space as a mark (SentencePiece: Llama 2, Mistral, Gemma, T5). Both are read from the description
of the tokenizer's decoder, never guessed from its tokens. All others are refused, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from draftpool.errors import ModelNotServable

TokenReader = Callable[[str], bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_reader(tokenizer: dict[str, Any]) -> TokenReader:
    """How the tokens of this tokenizer are read.

    The decoder may drop spaces at the very start of a text, where the tokenizer had put one; the reader keeps them.

    Args:
        tokenizer: the content of a `tokenizer.json`.

    Raises:
        ModelNotServable: the bytes of a token cannot be known, or depend on where it stands.
    """
    _require_plain_model(tokenizer["model"])
    decoder = components(tokenizer.get("decoder"))
    kinds = [component["type"] for component in decoder]
    if not decoder:
        raise _unreadable("has no decoder: nothing says where the spaces between its tokens belong")
    if is_byte_level(tokenizer):
        if "ByteLevel" not in kinds or set(kinds) - {"ByteLevel", "Fuse"}:
            raise _unreadable(f"encodes to byte-level tokens, but its decoder is {', '.join(kinds)}")
        return _byte_level_bytes
    if "ByteLevel" in kinds:
        raise _unreadable("has a byte-level decoder, but neither its pre-tokenizer nor its normalizer is byte-level")
    has_byte_tokens = "ByteFallback" in kinds or bool(tokenizer["model"].get("byte_fallback"))
    read = _marked_text_reader(decoder, has_byte_tokens=has_byte_tokens)
    for mark in space_marks(tokenizer):
        if read(mark) != b" ":
            raise _unreadable(f"writes a space as {mark!r}, which its decoder does not turn back into a space")
    return read


def components(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A decoder, pre-tokenizer or normalizer as the list of its parts, sequences unfolded."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    parts = component.get("decoders") or component.get("pretokenizers") or component.get("normalizers") or []
    return [single for part in parts for single in components(part)]


def is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether a text is turned into the byte-level alphabet before the model sees it."""
    return any(component["type"] == "ByteLevel" for component in _encoder(tokenizer))


def space_marks(tokenizer: dict[str, Any]) -> set[str]:
    """What spaces become before the model sees them."""
    return {
        component["replacement"] if component["type"] == "Metaspace" else component["content"]
        for component in _encoder(tokenizer)
        if component["type"] == "Metaspace" or is_space_replacement(component)
    }


def is_space_replacement(component: dict[str, Any]) -> bool:
    """Whether a normalizer does nothing but write each space as something else."""
    return bool(component["type"] == "Replace" and component["pattern"] == {"String": " "})


def _encoder(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    return components(tokenizer.get("normalizer")) + components(tokenizer.get("pre_tokenizer"))


def _require_plain_model(model: dict[str, Any]) -> None:
    kind = model.get("type") or ("BPE" if "merges" in model else "Unigram" if "unk_id" in model else "unnamed")
    if kind not in {"BPE", "Unigram"}:
        raise _unreadable(f"has a {kind} model; only BPE and Unigram models keep the spaces of a text in their tokens")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):
            raise _unreadable(f"writes {model[affix]!r} into its tokens ({affix}), which is no part of the text")


def _marked_text_reader(decoder: Iterable[dict[str, Any]], *, has_byte_tokens: bool) -> TokenReader:
    replacements: list[tuple[str, str]] = []
    is_fused = False
    for component in decoder:
        match component["type"]:
            case "Fuse":
                is_fused = True
            case "ByteFallback":
                pass
            case "Metaspace":
                replacements.append((component["replacement"], " "))
            case "Replace":
                replacements.append(_replacement(component, is_fused=is_fused))
            case "Strip":
                _require_only_text_start(component, is_fused=is_fused)
            case kind:
                raise _unreadable(f"has the decoder {kind}, under which a token's bytes depend on where it stands")

    def read(token: str) -> bytes:
        if has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(match[1])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode()

    return read


def _replacement(component: dict[str, Any], *, is_fused: bool) -> tuple[str, str]:
    old = component["pattern"].get("String")
    if not old:
        raise _unreadable(f"has a decoder that replaces by a regular expression, {component['pattern']}")
    if is_fused and len(old) > 1:
        raise _unreadable(f"has a decoder that replaces {old!r} across the tokens of a text")
    return old, component["content"]


def _require_only_text_start(strip: dict[str, Any], *, is_fused: bool) -> None:
    if not is_fused or strip["stop"]:
        where = "the end of a text" if is_fused else "every token"
        raise _unreadable(f"has a decoder that strips {strip['content']!r} from {where}")


def _byte_level_bytes(token: str) -> bytes:
    """A token with a character that the alphabet lacks is no product of it, and says its own text."""
    try:
        return bytes(_BYTE_OF_CHARACTER[character] for character in token)
    except KeyError:
        return token.encode()


def _unreadable(what: str) -> ModelNotServable:
    return ModelNotServable(f"the tokenizer {what}; the byte strings of its tokens cannot be known")


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for code points from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()
