"""From token ids to text that is safe to show: whole characters, and nothing that could still be a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftpool.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextToken:
    """A token on its way to the client.

    Attributes:
        text: what it adds to the text; empty where a later token completes the character.
        drafted: whether the drafter had proposed it.
        logprob: under the target's own distribution, where asked for.
        top_logprobs: (token id, log-probability) of what could have stood here, most probable first, where asked for.
    """

    token_id: int
    text: str
    drafted: bool
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class TextAssembler:
    """Releases tokens in order, as soon as no stop string can begin in their text any more.

    Tokens that another stream has released already are pushed like any others and never released again: what a token
    adds to the text depends on all before it.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str], *, num_known: int = 0) -> None:
        """`num_known`: how many of the first tokens the client has."""
        self._num_known = num_known
        self._token_bytes = vocabulary.token_bytes
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held: list[TextToken] = []
        self.matched_stop: str | None = None

    def push(
        self,
        token_id: int,
        *,
        drafted: bool,
        logprob: float | None = None,
        top_logprobs: tuple[tuple[int, float], ...] = (),
    ) -> list[TextToken]:
        """Add the next token and return what is released by it, in order.

        Once a stop string is met, `matched_stop` says which, all is released with the text cut before it, and no
        further token may be pushed.
        """
        text = self._decoder.decode(self._token_bytes[token_id])
        self._held.append(TextToken(token_id, text, drafted, logprob, top_logprobs))
        held_text = "".join(token.text for token in self._held)
        match = min(((held_text.find(stop), stop) for stop in self._stop if stop in held_text), default=None)
        if match is not None:
            self.matched_stop = match[1]
            return self._release(len(self._held), cut=match[0])
        return self._release(self._num_safe(len(held_text) - self._num_suspect(held_text)))

    def finish(self) -> list[TextToken]:
        """Release what is held; half a character becomes the replacement character."""
        rest = self._decoder.decode(b"", final=True)
        if rest and self._held:
            self._held[-1] = replace(self._held[-1], text=self._held[-1].text + rest)
        return self._release(len(self._held))

    def _num_suspect(self, held_text: str) -> int:
        """Length of the longest ending of the text that a stop string begins with."""
        for length in range(min(len(held_text), max(map(len, self._stop), default=0)), 0, -1):
            if any(stop.startswith(held_text[-length:]) for stop in self._stop):
                return length
        return 0

    def _num_safe(self, num_safe_chars: int) -> int:
        """How many held tokens end within the safe text. A half character stays, for `finish` to complete."""
        num_tokens, end = 0, 0
        is_half = bool(self._decoder.getstate()[0])
        for token in self._held[: len(self._held) - is_half]:
            end += len(token.text)
            if end > num_safe_chars:
                break
            num_tokens += 1
        return num_tokens

    def _release(self, num_tokens: int, cut: int | None = None) -> list[TextToken]:
        released, self._held = self._held[:num_tokens], self._held[num_tokens:]
        if cut is not None:
            released = _trimmed(released, cut)
        num_known = min(self._num_known, len(released))
        self._num_known -= num_known
        return released[num_known:]


def _trimmed(tokens: Sequence[TextToken], num_chars: int) -> list[TextToken]:
    """The tokens with the first so many characters of their text."""
    start, trimmed = 0, []
    for token in tokens:
        trimmed.append(replace(token, text=token.text[: max(0, num_chars - start)]))
        start += len(token.text)
    return trimmed
