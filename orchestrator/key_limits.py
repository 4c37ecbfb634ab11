"""What a key has used, and whether it may use more. Pure; the caller has the clock."""

from __future__ import annotations

from draftpool.errors import RateLimited
from orchestrator.api_keys import ApiKey, KeyEntry

_TOO_MANY_AT_ONCE_RETRY_S = 1.0
_MINUTE_S = 60.0


class TokenBucket:
    """Fills evenly, holds a minute's worth at most, is full at first, and can be overdrawn."""

    def __init__(self, per_minute: float, now_s: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until so much is there, in seconds; more than a minute's worth counts as a minute's."""
        self._fill(now_s)
        missing = min(amount, self.per_minute) - self._level
        return max(0.0, missing * _MINUTE_S / self.per_minute)

    def take(self, amount: float, now_s: float) -> None:
        """Whether it is there or not; what is overdrawn fills up first."""
        self._fill(now_s)
        self._level -= amount

    def _fill(self, now_s: float) -> None:
        self._level = min(self.per_minute, self._level + (now_s - self._at_s) * self.per_minute / _MINUTE_S)
        self._at_s = now_s


class KeyUse:
    """The use of one key, under the limits that it has now.

    Attributes:
        num_running: calls in progress.
    """

    def __init__(self) -> None:
        self.num_running = 0
        self._requests: TokenBucket | None = None
        self._tokens: TokenBucket | None = None

    def start(self, entry: KeyEntry, now_s: float) -> None:
        """Count a call that begins.

        Raises:
            RateLimited: a limit does not allow it now; it is not counted.
        """
        self._requests = _bucket(self._requests, entry.requests_per_minute, now_s)
        self._tokens = _bucket(self._tokens, entry.tokens_per_minute, now_s)
        if entry.max_concurrent_requests is not None and self.num_running >= entry.max_concurrent_requests:
            raise RateLimited(
                f"this API key allows {entry.max_concurrent_requests} requests at the same time",
                retry_after_s=_TOO_MANY_AT_ONCE_RETRY_S,
            )
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            wait_s = 0.0 if bucket is None else bucket.wait_s(1.0, now_s)
            if bucket is not None and wait_s > 0:
                raise RateLimited(f"this API key allows {bucket.per_minute:g} {what} a minute", retry_after_s=wait_s)
        if self._requests is not None:
            self._requests.take(1.0, now_s)
        self.num_running += 1

    def use_tokens(self, num_tokens: int, now_s: float) -> None:
        """Of a call in progress."""
        if self._tokens is not None:
            self._tokens.take(num_tokens, now_s)

    def end(self) -> None:
        """A call that was counted is over."""
        self.num_running -= 1


def _bucket(bucket: TokenBucket | None, per_minute: float | None, now_s: float) -> TokenBucket | None:
    """The same one for as long as the limit is the same."""
    if per_minute is None:
        return None
    if bucket is not None and bucket.per_minute == per_minute:
        return bucket
    return TokenBucket(per_minute, now_s)


class KeyUses:
    """The use of all keys, by name: a key that is replaced by another of its name goes on with its use."""

    def __init__(self) -> None:
        self._by_name: dict[str, KeyUse] = {}

    def of(self, key: ApiKey) -> KeyUse:
        return self._by_name.setdefault(key.name, KeyUse())
