import numpy as np
import pytest
from scipy import stats

from draftpool.noise import DRAW_STREAM, GumbelRows, exponential_noise, philox_blocks, uniform_noise

ZEROS, ONES = np.zeros(1, np.uint32), np.full(1, 0xFFFFFFFF, np.uint32)
PI = [np.array([word], np.uint32) for word in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)]


@pytest.mark.parametrize(
    ("seed", "counter", "expected"),
    [
        (0, [ZEROS] * 4, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, [ONES] * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_test_vectors(seed: int, counter: list, expected: str) -> None:
    """The known answers of Random123's kat_vectors for philox4x32-10."""
    assert " ".join(f"{int(word[0]):08x}" for word in philox_blocks(seed, counter)) == expected


def test_noise_is_a_pure_function_of_seed_position_and_token() -> None:
    together = exponential_noise(7, [3, 9, 10], 101)
    alone = exponential_noise(7, [9], 101)
    longer_vocabulary = exponential_noise(7, [9], 4096)
    np.testing.assert_array_equal(together[1], alone[0])
    np.testing.assert_array_equal(longer_vocabulary[0, :101], alone[0])
    assert not np.array_equal(exponential_noise(8, [9], 101), alone)


def test_the_documented_noise_values_hold() -> None:
    """The vectors of docs/noise.md."""
    expected = [1.477245, 0.5206766, 1.3865386, 1.0001328, 1.9733324]
    np.testing.assert_allclose(exponential_noise(42, [7], 5)[0], expected, rtol=1e-6)


def test_noise_is_exponential() -> None:
    noise = exponential_noise(123, range(50), 2000).ravel()
    assert noise.min() > 0
    assert stats.kstest(noise, "expon").pvalue > 0.001


def test_rows_of_neighbouring_positions_are_uncorrelated() -> None:
    rows = exponential_noise(5, range(40), 5000)
    correlations = np.corrcoef(rows)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(5000)


def test_uniform_noise_is_uniform_and_a_pure_function_of_seed_position_and_draw() -> None:
    noise = uniform_noise(3, range(4000), 5)
    assert (noise.min() >= 0, noise.max() < 1) == (True, True)
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 0.001
    np.testing.assert_array_equal(uniform_noise(3, [17], 2)[0], noise[17, :2])
    assert not np.isin(uniform_noise(4, range(4000), 5), noise).any()


def test_the_documented_uniform_values_hold() -> None:
    """The vectors of docs/noise.md."""
    np.testing.assert_allclose(uniform_noise(42, [7], 3)[0], [0.32220477, 0.21242449, 0.92098974], rtol=1e-6)


def test_streams_are_independent_of_each_other() -> None:
    """What is drawn, what is chosen and what is accepted must not know of each other."""
    chosen = exponential_noise(9, range(500), 4)
    drawn = exponential_noise(9, range(500), 4, stream=DRAW_STREAM)
    accepted = uniform_noise(9, range(500), 4)
    correlations = np.corrcoef(np.concatenate([chosen.T, drawn.T, accepted.T]))
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 5 / np.sqrt(500)


def test_remembered_rows_equal_fresh_ones() -> None:
    rows = GumbelRows(11, 64)
    first = rows.rows([4, 5, 5])
    for start in range(0, 300, 7):
        rows.rows(list(range(start, start + 7)))
    np.testing.assert_array_equal(rows.rows([4, 5, 5]), first)
    np.testing.assert_allclose(first, -np.log(exponential_noise(11, [4, 5, 5], 64)))
