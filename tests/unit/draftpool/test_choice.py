import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from draftpool.choice import coupled_scores, probed_nucleus_edge, sorted_nucleus_edge, truncated
from draftpool.sampling import SamplingParams

torch.set_num_threads(1)


def test_greedy_scores_are_the_logits() -> None:
    logits = torch.randn(3, 11)
    assert coupled_scores(logits, SamplingParams(temperature=0), None) is logits


def test_top_k_keeps_the_k_largest() -> None:
    kept = truncated(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), SamplingParams(top_k=2))
    assert torch.isfinite(kept).tolist() == [[False, True, False, True]]


@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.sampled_from([5, 300, 3000]))
def test_top_p_keeps_the_smallest_sufficient_set(seed: int, top_p: float, vocab_size: int) -> None:
    """Against the definition, by a full sort in float64."""
    logits = torch.randn(2, vocab_size, generator=torch.Generator().manual_seed(seed)) * 2
    kept = torch.isfinite(truncated(logits, SamplingParams(top_p=top_p)))
    for row, kept_row in zip(logits.double(), kept, strict=True):
        probs = row.softmax(-1).sort(descending=True).values
        mass = probs.cumsum(-1)
        num_needed = int((mass < top_p - 1e-5).sum()) + 1
        num_allowed = int((mass < top_p + 1e-5).sum()) + 1
        assert num_needed <= int(kept_row.sum()) <= num_allowed


def test_top_p_applies_to_what_top_k_left() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    kept = truncated(logits, SamplingParams(top_k=2, top_p=0.6))  # of (0.625, 0.375) the first reaches 0.6
    assert torch.isfinite(kept).tolist() == [[True, False, False]]


def test_a_lower_temperature_sharpens() -> None:
    logits, gumbel = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.5]])
    assert coupled_scores(logits, SamplingParams(temperature=1), gumbel).argmax() == 1
    assert coupled_scores(logits, SamplingParams(temperature=0.5), gumbel).argmax() == 0


WARPERS = {
    "top_k": (7, TopKLogitsWarper(7)),
    "top_p": (0.8, TopPLogitsWarper(0.8)),
    "min_p": (0.05, MinPLogitsWarper(0.05)),
    "typical_p": (0.6, TypicalLogitsWarper(0.6)),
}


@pytest.mark.parametrize("names", [*([name] for name in WARPERS), [*WARPERS]], ids=lambda names: " ".join(names))
def test_truncations_are_those_of_transformers_in_its_order(names) -> None:
    logits = 2 * torch.randn(50, 60, generator=torch.Generator().manual_seed(5))
    params = SamplingParams(**{name: WARPERS[name][0] for name in names})
    warpers = LogitsProcessorList([WARPERS[name][1] for name in names])
    assert torch.equal(truncated(logits, params), warpers(torch.zeros(50, 1, dtype=torch.int64), logits.clone()))


@given(st.integers(0, 10_000), st.floats(0.01, 0.999), st.sampled_from([5, 300, 3000]), st.floats(0.1, 5))
def test_a_nucleus_found_by_probing_is_the_one_found_by_sorting(seed, top_p, vocab_size, spread) -> None:
    logits = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(seed)) * spread
    torch.testing.assert_close(probed_nucleus_edge(logits, top_p), sorted_nucleus_edge(logits, top_p))


def test_min_p_is_relative_to_the_most_probable_token() -> None:
    kept = truncated(torch.tensor([[0.5, 0.26, 0.2, 0.04]]).log(), SamplingParams(min_p=0.5))
    assert torch.isfinite(kept).tolist() == [[True, True, False, False]]
