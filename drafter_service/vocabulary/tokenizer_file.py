"""The tokenizer of a drafter, which need not lie beside its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers.utils.hub import cached_file

from draftpool.errors import ModelNotServable


@dataclass(frozen=True)
class TokenizerFile:
    """A `tokenizer.json` and what else is known of it.

    Attributes:
        json: the file's text.
        num_tokens: ids there are, up to the largest.
        eos_token_ids: as `tokenizer_config.json` names them; none where it does not.
    """

    json: str
    num_tokens: int
    eos_token_ids: tuple[int, ...]

    def load(self) -> Tokenizer:
        return Tokenizer.from_str(self.json)


def read_tokenizer(name: str) -> TokenizerFile:
    """Read the tokenizer of a folder or a hub id.

    Raises:
        ModelNotServable: there is no `tokenizer.json`, or it cannot be read.
    """
    text = _read(name, "tokenizer.json")
    if text is None:
        raise ModelNotServable(f"{name!r} has no tokenizer.json; the setting `tokenizer` names another place for it")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # what the library raises has no class of its own
        raise ModelNotServable(f"cannot read the tokenizer.json of {name!r}: {error}") from error
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    return TokenizerFile(text, max(ids, default=-1) + 1, _eos_token_ids(name, tokenizer))


def _eos_token_ids(name: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    eos_token = json.loads(_read(name, "tokenizer_config.json") or "{}").get("eos_token")
    if isinstance(eos_token, dict):
        eos_token = eos_token["content"]
    token_id = None if eos_token is None else tokenizer.token_to_id(eos_token)
    return () if token_id is None else (token_id,)


def _read(name: str, file_name: str) -> str | None:
    try:
        path = cached_file(name, file_name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise ModelNotServable(f"cannot read {file_name} of {name!r}: {error}") from error
    return None if path is None else Path(path).read_text(encoding="utf-8")
