from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import MambaForCausalLM

from drafter_service.recurrent_model import RecurrentModel
from drafter_service.weights import load_mamba
from draftpool.errors import ModelNotServable

TOKENS = torch.randint(0, 320, (150,), generator=torch.Generator().manual_seed(3)).tolist()
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def expected(reference: MambaForCausalLM) -> torch.Tensor:
    """(T, V): transformers' own logits after every token."""
    with torch.no_grad():
        logits: torch.Tensor = reference(torch.tensor([TOKENS])).logits[0]
    return logits


def test_steps_give_the_logits_of_transformers(model: RecurrentModel, expected: torch.Tensor) -> None:
    model.reset(0)
    logits = torch.cat([model.step([token], [0], [0]) for token in TOKENS[:30]])
    torch.testing.assert_close(logits, expected[:30], **TOLERANCE)


@pytest.mark.parametrize("cuts", [[], [1], [2, 3], [64], [5, 6, 100], [149]])
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


def test_a_reset_slot_remembers_nothing(model: RecurrentModel) -> None:
    model.reset(0)
    first = model.step([5], [0], [0])
    model.prefill(TOKENS, 0)
    model.reset(0)
    torch.testing.assert_close(model.step([5], [0], [0]), first, rtol=0, atol=0)


def test_bfloat16_matrices_stay_close_to_float32(
    checkpoint: Path, expected: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drafter_service.projection._BFLOAT16_MIN_WEIGHTS", 0)
    model = RecurrentModel(load_mamba(str(checkpoint), dtype=torch.bfloat16, device="cpu"), num_slots=1)
    model.reset(0)
    model.prefill(TOKENS[:-1], 0)
    logits = model.step(TOKENS[-1:], [0], [0])
    torch.testing.assert_close(logits[0], expected[-1], atol=0.1 * float(expected.std()), rtol=0.1)


def test_what_is_not_mamba_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotServable, match="cannot read"):
        load_mamba(str(tmp_path), dtype=torch.float32, device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelNotServable, match="'gpt2'"):
        load_mamba(str(tmp_path), dtype=torch.float32, device="cpu")
