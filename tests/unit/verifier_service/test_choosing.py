import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draftpool.choice import coupled_scores
from draftpool.sampling import SamplingParams
from verifier_service.choosing import best_under_noise, chosen_logprobs

params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 3, 20, 1000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)


@settings(deadline=None, max_examples=200)
@given(params=params, seed=st.integers(0, 1000), num_rows=st.integers(1, 9), has_ties=st.booleans())
def test_choosing_without_sorting_equals_the_argmax_of_the_sorted_scores(params, seed, num_rows, has_ties) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, 50, generator=generator)
    if has_ties:
        logits = logits.round()
    logits[:, 7] = -torch.inf
    gumbel = -torch.empty(num_rows, 50).exponential_(generator=generator).log()
    expected = coupled_scores(logits, params, gumbel).argmax(dim=-1)
    assert torch.equal(best_under_noise(logits, params, gumbel), expected)


def test_logprobs_are_of_the_chosen_tokens() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, -torch.inf]])
    expected = logits.log_softmax(dim=-1)[[0, 1], [2, 0]]
    torch.testing.assert_close(chosen_logprobs(logits, torch.tensor([2, 0])), expected)
