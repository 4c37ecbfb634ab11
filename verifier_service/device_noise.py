"""The noise of `draftpool.noise` in torch, for devices where numpy's would have to be carried over.

The integers are the same to the bit; the logarithms are the device's own, within 2 units in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftpool.noise import CHOICE_STREAM
from verifier_service.transfer import to_device

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_NUM_ROUNDS = 10
_WORD = 0xFFFFFFFF
_LARGEST_UNIFORM = 1 - 2**-24
_ROWS_AT_ONCE = 32
"""Bounds the memory of the integers, which are 8 bytes each here."""


def gumbel_noise(seeds: Sequence[int], positions: Sequence[int], vocab_size: int, device: torch.device) -> Tensor:
    """(P, V) float32: -log E(seeds[i], positions[i], v)."""
    return -exponential_noise(seeds, positions, vocab_size, device).log()


def exponential_noise(seeds: Sequence[int], positions: Sequence[int], vocab_size: int, device: torch.device) -> Tensor:
    """Rows of standard exponential noise, each of a request of its own.

    Args:
        seeds, positions: (P,) as in `draftpool.noise.exponential_noise`.

    Returns:
        (P, V) float32, positive.
    """
    keys = [(seed & _WORD, seed >> 32, position) for seed, position in zip(seeds, positions, strict=True)]
    columns = to_device(torch.tensor(keys, dtype=torch.int64).reshape(-1, 3), device)
    return torch.cat([_noise_rows(some, vocab_size) for some in torch.split(columns, _ROWS_AT_ONCE)])


def _noise_rows(columns: Tensor, vocab_size: int) -> Tensor:
    low, high, positions = torch.split(columns, 1, dim=-1)
    blocks = torch.arange(-(-vocab_size // 4), device=columns.device)[None, :]
    zeros = torch.zeros_like(blocks)
    words = torch.stack(philox_blocks((low, high), (blocks, positions, zeros + CHOICE_STREAM, zeros)), dim=-1)
    words = words.flatten(start_dim=1)[:, :vocab_size]
    uniform = (words.float() + 0.5) * 2**-32
    return -torch.log1p(-uniform.clamp(max=_LARGEST_UNIFORM))


def philox_blocks(key: tuple[Tensor, Tensor], counters: Sequence[Tensor]) -> list[Tensor]:
    """Philox 4x32-10 of many counters, each row under a key of its own.

    Args:
        key: the low and the high word, int64, below 2**32.
        counters: four int64 tensors below 2**32; all broadcast to one shape.

    Returns:
        Four int64 tensors of that shape, below 2**32.

    Source: Salmon et al., SC 2011.
    """
    first_key, second_key = key
    words = list(counters)
    for _ in range(_NUM_ROUNDS):
        first_high, first_low = _multiply(words[0], _MULTIPLIERS[0])
        second_high, second_low = _multiply(words[2], _MULTIPLIERS[1])
        words = [second_high ^ words[1] ^ first_key, second_low, first_high ^ words[3] ^ second_key, first_low]
        first_key, second_key = (first_key + _KEY_STEPS[0]) & _WORD, (second_key + _KEY_STEPS[1]) & _WORD
    return words


def _multiply(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of a 32 x 32 bit product; what int64 takes for a sign is masked away."""
    product = words * multiplier
    return (product >> 32) & _WORD, product & _WORD
