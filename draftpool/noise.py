"""The noise that drafter and target share: a pure function of (seed, position, token id).

The target's token at position t is argmax over v of p_t(v) / E(seed, t, v) with E exponential, which is an
exact sample of p_t (the Gumbel-max trick). A drafter that ranks its own probabilities by the same E proposes
the same token far more often than an independent draw would; nothing but the seed is shared. What is
emitted depends on (prompt, seed, sampling parameters) alone: not on the drafter, the tree or the batch.

E comes from Philox 4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011), so that every device computes the same value with no state to keep:

    key      (seed low 32 bits, seed high 32 bits)
    counter  (token_id // 4, position, stream, 0), stream 0 for choices
    word x   output token_id % 4 of the block
    E        -log1p(-min((x + 0.5) / 2**32, 1 - 2**-24)), in float32

Small E decide the argmax, and small x give small E at full relative precision. `docs/noise.md` holds test vectors.

Source: drafter-invariant speculative decoding, Daliri, Musco, Suresh, arXiv:2408.07978.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
WordArray = npt.NDArray[np.uint32]

CHOICE_STREAM = 0
"""The counter's third word for the noise of token choice; other uses of a request's seed take other streams."""

DRAW_STREAM = 1
"""For drafts that are drawn independently of the target's choices: the rejection rule's."""

ACCEPT_STREAM = 2
"""For what the rejection rule decides by: whether a sibling is accepted, and what comes when none is."""

MAX_SEED = 2**64 - 1

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_NUM_ROUNDS = 10
_LARGEST_UNIFORM = np.float32(1 - 2**-24)


def philox_blocks(seed: int, counters: Sequence[WordArray]) -> list[WordArray]:
    """Philox 4x32-10 of many counters under one key.

    Args:
        seed: 64 bits; the low word is the first key word.
        counters: four uint32 arrays that broadcast to one shape.

    Returns:
        Four uint32 arrays of that shape: the words of each block.
    """
    key = [seed & 0xFFFFFFFF, seed >> 32]
    words = list(np.broadcast_arrays(*counters))
    for _ in range(_NUM_ROUNDS):
        first_high, first_low = _multiply(words[0], _MULTIPLIERS[0])
        second_high, second_low = _multiply(words[2], _MULTIPLIERS[1])
        words = [
            second_high ^ words[1] ^ np.uint32(key[0]),
            second_low,
            first_high ^ words[3] ^ np.uint32(key[1]),
            first_low,
        ]
        key = [(word + step) & 0xFFFFFFFF for word, step in zip(key, _KEY_STEPS, strict=True)]
    return words


def _multiply(words: WordArray, multiplier: np.uint64) -> tuple[WordArray, WordArray]:
    """The high and the low 32 bits of a 32 x 32 bit product."""
    product = words.astype(np.uint64) * multiplier
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def exponential_noise(
    seed: int, positions: Sequence[int], vocab_size: int, *, stream: int = CHOICE_STREAM, series: int = 0
) -> FloatArray:
    """Rows of standard exponential noise.

    Args:
        seed: the request's seed, 0 to 2**64 - 1.
        positions: (P,) index of the chosen token in the sequence; the first token after a prompt of n tokens has n.
        vocab_size: V, of the target.
        stream, series: the last two words of the counter.

    Returns:
        (P, V) float32, positive; entry (i, v) is E(seed, positions[i], v).
    """
    num_blocks = -(-vocab_size // 4)
    blocks = np.arange(num_blocks, dtype=np.uint32)[None, :]
    rows = np.asarray(positions, dtype=np.uint32)[:, None]
    rest = np.array(stream, dtype=np.uint32), np.array(series, dtype=np.uint32)
    words = np.stack(philox_blocks(seed, (blocks, rows, *rest)), axis=-1)
    words = words.reshape(len(positions), 4 * num_blocks)[:, :vocab_size]
    uniform = (words.astype(np.float32) + np.float32(0.5)) * np.float32(2**-32)
    noise: FloatArray = -np.log1p(-np.minimum(uniform, _LARGEST_UNIFORM))
    return noise


def uniform_noise(seed: int, positions: Sequence[int], num_draws: int) -> npt.NDArray[np.float64]:
    """Rows of uniform noise for the rejection rule.

    Two draws make a block, of two words each: draw i of a position is 53 bits of words 2 * (i % 2), the high one, and
    2 * (i % 2) + 1 under the counter (i // 2, position, 2, 0).

    Returns:
        (P, num_draws) in [0, 1).
    """
    blocks = np.arange(-(-num_draws // 2), dtype=np.uint32)[None, :]
    rows = np.asarray(positions, dtype=np.uint32)[:, None]
    rest = np.array(ACCEPT_STREAM, dtype=np.uint32), np.array(0, dtype=np.uint32)
    words = philox_blocks(seed, (blocks, rows, *rest))
    high, low = np.stack(words[::2], axis=-1), np.stack(words[1::2], axis=-1)
    bits = (high.astype(np.uint64) << np.uint64(21)) | (low >> np.uint32(11))
    return bits.reshape(len(rows), -1)[:, :num_draws] * 2.0**-53


class GumbelRows:
    """Gumbel noise -log E of one request, row by row, remembered from the smallest position last asked for.

    Positions of rejected tokens are asked for again in the next round, earlier ones never; so about as many rows are
    kept as a tree is deep.
    """

    def __init__(self, seed: int, vocab_size: int) -> None:
        self._seed = seed
        self._vocab_size = vocab_size
        self._rows: dict[int, FloatArray] = {}

    def rows(self, positions: Sequence[int]) -> FloatArray:
        """(P, V) float32 for the P positions asked, which may repeat."""
        missing = sorted(set(positions) - self._rows.keys())
        if missing:
            fresh = -np.log(exponential_noise(self._seed, missing, self._vocab_size))
            self._rows.update(zip(missing, fresh, strict=True))
        oldest = min(positions)
        self._rows = {position: row for position, row in self._rows.items() if position >= oldest}
        return np.stack([self._rows[position] for position in positions])
