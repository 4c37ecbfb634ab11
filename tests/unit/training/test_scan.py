"""The fast scan and the functional Mamba agree with their plain twins."""

import pytest
import torch
import transformers

from training.mamba_forward import mamba_logits
from training.scan import linear_scan


def naive_scan(decays, inputs):
    """The recurrence as it is written on paper; autograd differentiates it."""
    states = [inputs[0]]
    for decay, added in zip(decays[1:], inputs[1:], strict=True):
        states.append(decay * states[-1] + added)
    return torch.stack(states)


def random_recurrence(length):
    generator = torch.Generator().manual_seed(length)
    decays = torch.rand(length, 2, 4, 3, generator=generator, dtype=torch.float64)
    inputs = torch.randn(length, 2, 4, 3, generator=generator, dtype=torch.float64)
    return decays.requires_grad_(), inputs.requires_grad_()


@pytest.fixture
def mamba():
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, state_size=8, tie_word_embeddings=True
    )
    return transformers.MambaForCausalLM(config).eval()


@pytest.mark.parametrize("length", [1, 2, 17])
def test_the_scan_solves_the_recurrence(length):
    decays, inputs = random_recurrence(length)
    torch.testing.assert_close(linear_scan(decays, inputs), naive_scan(decays, inputs))


@pytest.mark.parametrize("length", [1, 2, 17])
def test_the_scans_gradient_is_autograds(length):
    decays, inputs = random_recurrence(length)
    weights = torch.randn(inputs.shape, dtype=torch.float64)
    by_hand = torch.autograd.grad((linear_scan(decays, inputs) * weights).sum(), (decays, inputs))
    by_autograd = torch.autograd.grad(
        (naive_scan(decays, inputs) * weights).sum(), (decays, inputs), allow_unused=True, materialize_grads=True
    )
    torch.testing.assert_close(by_hand, by_autograd)


def test_the_functional_forward_is_transformers_own(mamba):
    token_ids = torch.randint(0, 50, (2, 23))
    with torch.inference_mode():
        torch.testing.assert_close(mamba_logits(mamba, token_ids), mamba(token_ids).logits, atol=1e-4, rtol=1e-4)


def test_every_parameter_receives_transformers_gradient(mamba):
    token_ids = torch.randint(0, 50, (2, 9))
    parameters = list(mamba.parameters())
    ours = torch.autograd.grad(mamba_logits(mamba, token_ids).square().mean(), parameters)
    theirs = torch.autograd.grad(mamba(token_ids).logits.square().mean(), parameters)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
