"""Packed training windows drawn from a mixture of sources."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from training.bpe import END_OF_TEXT_ID
from training.text import Corpus

TokenArray = npt.NDArray[np.uint16]

GSM8K_SHARE = 0.72
"""Expected share of GSM8K among the training tokens; the rest is Python."""


class StreamState(TypedDict):
    """Where a stream stands; enough to go on exactly there."""

    epoch: int
    cursor: int


def encode_documents(tokenizer: Tokenizer, documents: list[str]) -> list[TokenArray]:
    """Encode each document and close it with the end-of-text token.

    Returns:
        One (length,) array a document.
    """
    encodings = tokenizer.encode_batch(documents)
    return [np.array([*encoding.ids, END_OF_TEXT_ID], dtype=np.uint16) for encoding in encodings]


class PackedStream:
    """Endless windows over documents laid end to end, reshuffled and shifted every epoch.

    A window may begin and end inside a document. The random shift keeps the cuts from falling twice on the same place.
    """

    def __init__(self, documents: list[TokenArray], seed: int) -> None:
        self._documents = documents
        self._seed = seed
        self._open_epoch(0)

    def next_window(self, length: int) -> TokenArray:
        """The next `length` tokens; an epoch's remainder shorter than that is dropped."""
        if self._cursor + length > len(self._tokens):
            self._open_epoch(self._epoch + 1)
        window = self._tokens[self._cursor : self._cursor + length]
        self._cursor += length
        return window

    def state(self) -> StreamState:
        """The position, for a checkpoint."""
        return {"epoch": self._epoch, "cursor": self._cursor}

    def restore(self, state: StreamState) -> None:
        """Return to a position that `state` gave."""
        self._open_epoch(state["epoch"])
        self._cursor = state["cursor"]

    def _open_epoch(self, epoch: int) -> None:
        generator = np.random.default_rng((self._seed, epoch))
        order = generator.permutation(len(self._documents))
        self._tokens = np.concatenate([self._documents[index] for index in order])
        self._epoch = epoch
        self._cursor = int(generator.integers(0, min(len(self._tokens) // 2, 1024)))


class MixtureBatches:
    """Training batches in which each window comes from one source, chosen by the sources' shares."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, seed: int) -> None:
        self._seed = seed
        self._gsm8k = PackedStream(encode_documents(tokenizer, corpus.gsm8k.train), seed)
        self._python = PackedStream(encode_documents(tokenizer, corpus.python.train), seed + 1)

    def batch(self, step: int, num_windows: int, window_length: int) -> torch.Tensor:
        """The batch of one step.

        Returns:
            (num_windows, window_length + 1) int64: inputs and, shifted by one, their targets.
        """
        draws = np.random.default_rng((self._seed, step)).random(num_windows)
        streams = [self._gsm8k if draw < GSM8K_SHARE else self._python for draw in draws]
        windows = np.stack([stream.next_window(window_length + 1) for stream in streams])
        return torch.from_numpy(windows.astype(np.int64))

    def state(self) -> dict[str, StreamState]:
        """Both streams' positions, for a checkpoint."""
        return {"gsm8k": self._gsm8k.state(), "python": self._python.state()}

    def restore(self, state: Mapping[str, StreamState]) -> None:
        """Return to positions that `state` gave."""
        self._gsm8k.restore(state["gsm8k"])
        self._python.restore(state["python"])
