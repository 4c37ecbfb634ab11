"""Mamba-1 and Mamba-2, from files of either layout, compute what transformers computes."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import load_mamba
from tests.unit.drafter_service.checkpoints import CONFIGS, VOCAB_SIZE, random_model, write_original

TOKENS = torch.randint(0, VOCAB_SIZE, (300,), generator=torch.Generator().manual_seed(3)).tolist()
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def reference(request: pytest.FixtureRequest) -> PreTrainedModel:
    return random_model(request.param)


@pytest.fixture(scope="module")
def expected(reference: PreTrainedModel) -> torch.Tensor:
    """(T, V): transformers' own logits after every token."""
    with torch.no_grad():
        logits: torch.Tensor = reference(torch.tensor([TOKENS])).logits[0]
    return logits


@pytest.fixture(scope="module", params=["Hugging Face", "mamba_ssm", "mamba_ssm, safetensors"])
def checkpoint(
    request: pytest.FixtureRequest, reference: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "Hugging Face":
        reference.save_pretrained(folder)
    else:
        write_original(reference, folder, as_safetensors=request.param.endswith("safetensors"))
    return folder


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> RecurrentModel:
    return RecurrentModel(load_mamba(str(checkpoint), dtype=torch.float32, device="cpu"), num_slots=64)


def test_steps_give_the_logits_of_transformers(model: RecurrentModel, expected: torch.Tensor) -> None:
    model.reset(0)
    logits = torch.cat([model.step([token], [0], [0]) for token in TOKENS[:30]])
    torch.testing.assert_close(logits, expected[:30], **TOLERANCE)


@pytest.mark.parametrize("cuts", [[], [1], [2, 3], [64], [5, 6, 200], [298]])
def test_prefill_gives_the_logits_of_transformers_however_it_is_cut(
    model: RecurrentModel, expected: torch.Tensor, cuts: list[int]
) -> None:
    model.reset(0)
    bounds = [0, *cuts, len(TOKENS) - 1]
    for start, end in pairwise(bounds):
        model.prefill(TOKENS[start:end], 0)
    torch.testing.assert_close(model.step(TOKENS[-1:], [0], [0])[0], expected[-1], **TOLERANCE)


def test_prefill_leaves_the_state_that_steps_leave(model: RecurrentModel) -> None:
    model.reset(0)
    model.reset(1)
    model.prefill(TOKENS, 0)
    for token in TOKENS:
        model.step([token], [1], [1])
    torch.testing.assert_close(model.state(0), model.state(1), **TOLERANCE)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, len(TOKENS)), max_size=6), is_stepped=st.booleans())
def test_any_mixture_of_prefills_and_steps_leaves_the_same_state(
    model: RecurrentModel, cuts: list[int], is_stepped: bool
) -> None:
    model.reset(0)
    model.reset(1)
    model.prefill(TOKENS, 0)
    for start, end in pairwise([0, *sorted(cuts), len(TOKENS)]):
        if is_stepped and end > start:
            model.step([TOKENS[start]], [1], [1])
            start += 1
        model.prefill(TOKENS[start:end], 1)
    torch.testing.assert_close(model.state(1), model.state(0), **TOLERANCE)


def test_children_start_from_their_parent_and_leave_it_as_it_was(model: RecurrentModel) -> None:
    model.reset(0)
    model.prefill(TOKENS[:10], 0)
    parent = model.state(0)
    tokens = list(range(40))  # more rows than are computed at once
    together = model.step(tokens, [0] * 40, list(range(1, 41)))
    torch.testing.assert_close(model.state(0), parent, rtol=0, atol=0)
    for token in (0, 13, 39):
        alone = model.step([token], [0], [50])
        torch.testing.assert_close(together[token], alone[0], **TOLERANCE)
        torch.testing.assert_close(model.state(1 + token), model.state(50), **TOLERANCE)


def test_rows_go_on_from_different_parents_together(model: RecurrentModel) -> None:
    for slot, length in enumerate((1, 5, 9)):
        model.reset(slot)
        model.prefill(TOKENS[:length], slot)
    together = model.step([7, 7, 8, 9], [2, 0, 1, 2], [2, 10, 11, 12])  # one is its own parent
    for row, (token, length) in enumerate([(7, 9), (7, 1), (8, 5), (9, 9)]):
        model.reset(20)
        model.prefill(TOKENS[:length], 20)
        torch.testing.assert_close(together[row], model.step([token], [20], [20])[0], **TOLERANCE)


def test_a_reset_slot_remembers_nothing(model: RecurrentModel) -> None:
    model.reset(0)
    first = model.step([5], [0], [0])
    model.prefill(TOKENS, 0)
    model.reset(0)
    torch.testing.assert_close(model.step([5], [0], [0]), first, rtol=0, atol=0)


def test_bfloat16_matrices_stay_close_to_float32(
    checkpoint: Path, expected: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drafter_service.mamba.projection._BFLOAT16_MIN_WEIGHTS", 0)
    model = RecurrentModel(load_mamba(str(checkpoint), dtype=torch.bfloat16, device="cpu"), num_slots=1)
    model.reset(0)
    model.prefill(TOKENS[:-1], 0)
    logits = model.step(TOKENS[-1:], [0], [0])
    torch.testing.assert_close(logits[0], expected[-1], atol=0.1 * float(expected.std()), rtol=0.1)


def test_bfloat16_states_take_half_the_memory_and_stay_close(checkpoint: Path, expected: torch.Tensor) -> None:
    weights = load_mamba(str(checkpoint), dtype=torch.float32, device="cpu")
    wide, narrow = (RecurrentModel(weights, 2, state_dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert narrow.slot_bytes * 2 == wide.slot_bytes
    narrow.reset(0)
    narrow.prefill(TOKENS[:200], 0)
    logits = torch.cat([narrow.step([token], [0], [0]) for token in TOKENS[200:]])
    assert float((logits - expected[200:]).std()) < 0.03 * float(expected.std())


def test_a_slot_is_as_large_as_the_model_says(model: RecurrentModel) -> None:
    model.reset(0)
    num_outputs = model.state(0).shape[0] * model._slots.layout.conv_width  # of the convolution, which say nothing
    assert model.slot_bytes == 4 * (model.state(0).numel() + num_outputs)


def test_parameters_are_counted_as_transformers_counts_them(checkpoint: Path, reference: PreTrainedModel) -> None:
    weights = load_mamba(str(checkpoint), dtype=torch.float32, device="cpu")
    num_padding = weights.num_parameters - reference.num_parameters()
    matrices = 1 if reference.config.tie_word_embeddings else 2
    assert num_padding in (0, matrices * (384 - VOCAB_SIZE) * reference.config.hidden_size)
