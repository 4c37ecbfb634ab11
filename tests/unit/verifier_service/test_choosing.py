import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draftpool.choice import coupled_scores
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from verifier_service.choosing import Chooser, Question, choose_all
from verifier_service.device_noise import gumbel_noise
from verifier_service.sortless import best_under_noise

params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 3, 20, 1000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.5]),
    typical_p=st.sampled_from([0.2, 0.9, 1.0, 1.0]),
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
    question = Question(Chooser(SamplingParams(temperature=0), 3), [0], DraftTree((1,), (-1,)), want_logprobs=True)
    (choice,) = choose_all(logits, [question])
    assert choice.token_ids == (2, 0)
    torch.testing.assert_close(torch.tensor(choice.logprobs), expected)


def test_the_most_probable_tokens_are_those_of_the_model_itself_whatever_was_chosen() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    params = SamplingParams(temperature=3, seed=4, banned_token_ids=(int(logits[0].argmax()),))
    (choice,) = choose_all(logits, [Question(Chooser(params, 9, num_top_logprobs=3), [0], DraftTree((1,), (-1,)))])
    expected = logits.log_softmax(-1).topk(3)
    assert choice.top_token_ids == tuple(expected.indices.flatten().tolist())
    torch.testing.assert_close(torch.tensor(choice.top_logprobs), expected.values.flatten())
    torch.testing.assert_close(
        torch.tensor(choice.logprobs), logits.log_softmax(-1)[[0, 1], torch.tensor(choice.token_ids)]
    )


def test_the_devices_own_noise_and_sorting_choose_as_numpys_noise_without_sorting() -> None:
    """The path of other devices, on a CPU."""
    logits = 3 * torch.randn(5, 300, generator=torch.Generator().manual_seed(2))
    tree, params = DraftTree((0, 1, 2, 3), (-1, 0, 0, 2)), SamplingParams(top_p=0.7, seed=1)
    (choice,) = choose_all(logits, [Question(Chooser(params, 300), [5, 6], tree)])
    gumbel = gumbel_noise([1] * 4, [2, 3, 4, 5], 300, logits.device)[[0, *tree.depths]]
    assert choice.token_ids == tuple(coupled_scores(logits, params, gumbel).argmax(-1).tolist())
