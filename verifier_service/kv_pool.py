"""The KV cache of all sessions: one allocation at start, handed out token by token.

A slot holds the key and the value of one token in every layer. A page of one token (SGLang's token-to-KV
pool does the same) means that accepting a path through a tree moves no memory: the accepted nodes' slots become
the session's, in order, and the others go back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from draftpool.errors import NoCapacity

SlotArray = npt.NDArray[np.int64]

NO_SLOTS: SlotArray = np.empty(0, dtype=np.int64)

_RETRY_AFTER_S = 0.5


@dataclass(frozen=True)
class LayerShape:
    """What one token leaves in one layer's cache.

    Attributes:
        num_heads: key-value heads.
        key_dim: of one head.
        value_dim: of one head.
    """

    num_heads: int
    key_dim: int
    value_dim: int

    def num_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of one slot in this layer."""
        return self.num_heads * (self.key_dim + self.value_dim) * dtype.itemsize


class KvPool:
    """Keys and values of a fixed number of slots, and who may take which.

    Attributes:
        num_slots: S.
        keys: a layer's keys, (num_heads, S, key_dim): gathering a session's slots makes each head's keys contiguous,
            which is what matrix products want.
        values: likewise, (num_heads, S, value_dim).
    """

    def __init__(
        self, layers: Sequence[LayerShape], num_slots: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.num_slots = num_slots
        # Not zeroed: a slot is always written before it is read, and untouched memory costs nothing on a CPU.
        self.keys = [
            torch.empty(layer.num_heads, num_slots, layer.key_dim, dtype=dtype, device=device) for layer in layers
        ]
        self.values = [
            torch.empty(layer.num_heads, num_slots, layer.value_dim, dtype=dtype, device=device) for layer in layers
        ]
        # A stack: slots freed last are in the processor's cache and are taken first.
        self._free: SlotArray = np.arange(num_slots, dtype=np.int64)[::-1].copy()
        self._num_free = num_slots

    @property
    def num_free(self) -> int:
        return self._num_free

    @property
    def num_used(self) -> int:
        return self.num_slots - self._num_free

    def allocate(self, num_slots: int) -> SlotArray:
        """Take slots, with whatever their last owner left in them.

        Raises:
            NoCapacity: fewer are free; none is taken then.
        """
        if num_slots > self._num_free:
            raise NoCapacity(
                f"{num_slots} more tokens do not fit in the KV cache: {self._num_free} of {self.num_slots} are free",
                retry_after_s=_RETRY_AFTER_S,
            )
        taken = self._free[self._num_free - num_slots : self._num_free].copy()
        self._num_free -= num_slots
        return taken

    def free(self, slots: SlotArray) -> None:
        """Give slots back; the caller held them.

        Raises:
            RuntimeError: more come back than were out.
        """
        num_free = self._num_free + len(slots)
        if num_free > self.num_slots:
            raise RuntimeError(f"{len(slots)} slots came back, but only {self.num_used} were out")
        self._free[self._num_free : num_free] = slots
        self._num_free = num_free

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys (num_heads, n, key_dim) and values (num_heads, n, value_dim) of n tokens in slots (n,)."""
        self.keys[layer].index_copy_(1, slots, keys)
        self.values[layer].index_copy_(1, slots, values)

    def read(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of keys (num_heads, n, key_dim) and values (num_heads, n, value_dim) of slots (n,)."""
        return self.keys[layer].index_select(1, slots), self.values[layer].index_select(1, slots)

    def check_integrity(self, held_slots: Iterable[int]) -> None:
        """Check that every slot is free or held, and none is both or held twice.

        Args:
            held_slots: all slots that the sessions say they hold.

        Raises:
            RuntimeError: a slot leaked or was handed out twice.
        """
        accounted = sorted([*self._free[: self._num_free].tolist(), *held_slots])
        if accounted != list(range(self.num_slots)):
            raise RuntimeError(f"free and held slots are {accounted}, not each of {self.num_slots} once")


def slots_for_bytes(layers: Sequence[LayerShape], dtype: torch.dtype, num_bytes: int) -> int:
    """How many tokens' keys and values fit in so much memory."""
    return num_bytes // sum(layer.num_bytes(dtype) for layer in layers)
