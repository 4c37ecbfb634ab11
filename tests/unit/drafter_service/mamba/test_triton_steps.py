"""Steps in the slots compute what steps on copies compute; run by Triton's interpreter where there is no GPU."""

from pathlib import Path

import pytest
import torch

from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import RecurrentWeights, load_mamba
from tests.unit.drafter_service.checkpoints import CONFIGS, MAMBA2, VOCAB_SIZE, random_model, write_original

pytest.importorskip("triton", reason="the kernels are tested where Triton is installed: pip install triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=[*CONFIGS, "mamba2 limited"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecurrentWeights:
    folder: Path = tmp_path_factory.mktemp("model")
    if request.param == "mamba2 limited":
        limited = {"layer": "Mamba2", "d_state": 8, "headdim": 8, "dt_limit": [0.02, 0.3]}
        write_original(random_model(MAMBA2), folder, ssm_cfg=limited)
    else:
        random_model(CONFIGS[request.param]).save_pretrained(folder)
    return load_mamba(str(folder), dtype=torch.float32, device=DEVICE)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def both(request: pytest.FixtureRequest, weights: RecurrentWeights) -> list[RecurrentModel]:
    """The same model with either way to step, and the same text in slots 0 and 1."""
    models = [RecurrentModel(weights, 40, state_dtype=request.param, is_in_place=way) for way in (False, True)]
    for model in models:
        for slot, length in enumerate((5, 30)):  # long enough to be prefilled, alike in both
            model.reset(slot)
            model.prefill(list(range(length)), slot)
    return models


@pytest.mark.parametrize("num_rows", [1, 3, 8, 35])
def test_children_of_any_parents(both: list[RecurrentModel], num_rows: int) -> None:
    tokens = torch.randint(0, VOCAB_SIZE, (num_rows,), generator=torch.Generator().manual_seed(num_rows)).tolist()
    parents = [row % 2 for row in range(num_rows)]
    children = [2 + (7 * row) % 37 for row in range(num_rows)]
    copied, in_place = (model.step(tokens, parents, children) for model in both)
    torch.testing.assert_close(in_place, copied, **TOLERANCE)
    for slot in (0, 1, *children):
        assert_same_state(both, slot)


def test_rows_that_are_their_own_parents(both: list[RecurrentModel]) -> None:
    for token in (5, 6, 7):
        copied, in_place = (model.step([token, token], [0, 1], [0, 1]) for model in both)
        torch.testing.assert_close(in_place, copied, **tolerance_of(both))
    for slot in (0, 1):
        assert_same_state(both, slot)


def test_logits_outlive_the_next_step(both: list[RecurrentModel]) -> None:
    _, model = both
    logits = model.step([5], [0], [2])
    before = logits.clone()
    model.step([6], [1], [3])
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def assert_same_state(both: list[RecurrentModel], slot: int) -> None:
    copied, in_place = (model.state(slot) for model in both)
    torch.testing.assert_close(in_place, copied, **tolerance_of(both))


def tolerance_of(both: list[RecurrentModel]) -> dict[str, float]:
    """Sums that differ in their last bits may round to neighbours in bfloat16, and steps carry that on."""
    is_narrow = both[0].slot_bytes < 4 * both[0].state(0).numel()
    return {"atol": 0.2, "rtol": 0.05} if is_narrow else TOLERANCE
