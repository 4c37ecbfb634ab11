"""The keys that let clients in: random, known here by their hash alone, each with a name and limits.

A file lists them, in TOML, one table a key:

    [alice]
    sha256 = "9f86d081..."
    requests_per_minute = 60

A key is 256 random bits, so a plain hash is enough at rest: nobody can guess keys to try against a stolen file, which
is all that a slow hash would hinder, at the price of a denial of service. A key is looked up by its whole hash: how
long that takes depends on bits of a hash that nobody can steer, and so tells nothing of the key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from draftpool.errors import BadParameter, Unauthenticated
from draftpool.watched_files import WatchedFiles

KEY_PREFIX = "dp_"
"""By which people, and scanners for leaked secrets, know a key when they see one."""

_KEY_BYTES = 32
_BEARER = "bearer "

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a key may be called."""


class KeyEntry(BaseModel):
    """What the file says of a key. A limit that is not there is none; limits hold for each orchestrator by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the key, in hex.")
    requests_per_minute: float | None = Field(None, gt=0, description="Calls; a minute's worth may come at once.")
    tokens_per_minute: float | None = Field(
        None, gt=0, description="Of prompts and answers; a request starts while any are left, and may overdraw them."
    )
    max_concurrent_requests: int | None = Field(None, ge=1, description="Generations at the same time, waiting or not.")
    max_new_tokens: int | None = Field(None, ge=1, description="Of one request.")
    priority: Literal["interactive", "standard", "batch"] = Field(
        "interactive", description="The most urgent that its requests are taken for."
    )


@dataclass(frozen=True)
class ApiKey:
    """A key as far as it is known here.

    Attributes:
        name: who has it; what logs, metrics and the queue's shares say instead of the key.
    """

    name: str
    entry: KeyEntry


class ApiKeys:
    """All keys, by hash."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_hash = {key.entry.sha256: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_hash)

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> ApiKey:
        """The key that a call shows, as `authorization: Bearer dp_...`.

        Raises:
            Unauthenticated: it shows none, or one that is not among these.
        """
        shown = next((value for name, value in metadata if name == "authorization"), None)
        if not isinstance(shown, str) or not shown.lower().startswith(_BEARER):
            raise Unauthenticated("an API key is needed: send the metadata `authorization: Bearer <key>`")
        try:
            return self._by_hash[hash_of(shown[len(_BEARER) :].strip())]
        except KeyError:
            raise Unauthenticated("this API key is not known here") from None


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def watched_keys(path: Path) -> WatchedFiles[ApiKeys]:
    """The keys in a file, whenever they are asked for. Raises BadParameter where the file makes no sense."""
    return WatchedFiles([path], partial(read_keys, path))


_FILE: TypeAdapter[dict[str, KeyEntry]] = TypeAdapter(
    dict[Annotated[str, StringConstraints(pattern=rf"^{KEY_NAME.pattern}$")], KeyEntry]
)


def read_keys(path: Path) -> ApiKeys:
    """Raises BadParameter, whose message holds no hash, or OSError."""
    try:
        with path.open("rb") as file:
            entries = _FILE.validate_python(tomllib.load(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadParameter(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise BadParameter(f"{path}: {'; '.join(map(_sentence, error.errors(include_input=False)))}") from None
    keys = ApiKeys(ApiKey(name, entry) for name, entry in entries.items())
    if len(keys) < len(entries):
        raise BadParameter(f"{path}: two names have the same key")
    return keys


def _sentence(problem: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
