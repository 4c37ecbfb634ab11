"""Which drafters a request leaves alone for a while, and for how long. Pure: the clock is the caller's."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from draftpool.errors import ContextLost, DraftpoolError, NoCapacity, UnknownVocabulary

_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 16.0
_MAX_FORGOTTEN_AT_ONCE = 2

T = TypeVar("T", bound=Hashable)


@dataclass
class _Record:
    """Failures since the last draft, and when the next attempt may be made."""

    num_failures: int = 0
    num_pauses: int = 0
    until_s: float = 0.0


class DrafterPauses(Generic[T]):
    """One request's experience with each drafter.

    What failed is left alone for a second, twice as long after each further failure in a row; a full drafter for as
    long as it says. One that has merely forgotten the context or the vocabulary is told again at once, a few times.
    """

    def __init__(self) -> None:
        self._records: dict[T, _Record] = {}

    def is_over(self, drafter: T, now_s: float) -> bool:
        """Whether the drafter may be asked."""
        record = self._records.get(drafter)
        return record is None or now_s >= record.until_s

    def fail(self, drafter: T, error: DraftpoolError, now_s: float) -> None:
        record = self._records.setdefault(drafter, _Record())
        record.num_failures += 1
        if isinstance(error, ContextLost | UnknownVocabulary) and record.num_failures <= _MAX_FORGOTTEN_AT_ONCE:
            return
        if isinstance(error, NoCapacity) and error.retry_after_s is not None:
            record.until_s = now_s + error.retry_after_s
            return
        record.until_s = now_s + min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2**record.num_pauses)
        record.num_pauses += 1

    def succeed(self, drafter: T) -> None:
        self._records.pop(drafter, None)
