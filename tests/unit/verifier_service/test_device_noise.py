"""torch's Philox beside numpy's, which has the published test vectors."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from draftpool import noise
from verifier_service.device_noise import exponential_noise, gumbel_noise, philox_blocks

CPU = torch.device("cpu")
seeds = st.integers(0, 2**64 - 1)
positions = st.integers(0, 2**32 - 1)


@given(seed=seeds, words=st.lists(st.tuples(*[positions] * 4), min_size=1, max_size=5))
def test_the_integers_are_the_same_to_the_bit(seed, words) -> None:
    expected = noise.philox_blocks(seed, list(np.array(words, dtype=np.uint32).T))
    key = (torch.tensor([seed & 0xFFFFFFFF]), torch.tensor([seed >> 32]))
    found = philox_blocks(key, list(torch.tensor(words).T))
    assert [word.tolist() for word in found] == [word.tolist() for word in expected]


@given(rows=st.lists(st.tuples(seeds, positions), min_size=1, max_size=40), vocab_size=st.integers(1, 70))
def test_rows_of_many_requests_are_each_requests_own_noise_within_two_ulp(rows, vocab_size) -> None:
    found = exponential_noise(*zip(*rows, strict=True), vocab_size, CPU).numpy()
    expected = np.concatenate([noise.exponential_noise(seed, [position], vocab_size) for seed, position in rows])
    assert found.shape == expected.shape
    np.testing.assert_array_max_ulp(found, expected, maxulp=2)


def test_gumbel_noise_is_minus_its_logarithm() -> None:
    found = gumbel_noise([5, 6], [1, 2], 1000, CPU)
    np.testing.assert_allclose(found[1], -np.log(noise.exponential_noise(6, [2], 1000))[0], rtol=1e-5, atol=1e-6)
