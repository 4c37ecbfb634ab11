"""Which type a model computes in."""

import pytest
import torch

from draftpool.dtypes import torch_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_what_is_asked_for_is_taken(name: str) -> None:
    assert torch_dtype(name, CPU) == torch_dtype(name, GPU) == getattr(torch, name)


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_computes_in_bfloat16_only_where_it_has_instructions_for_it(
    instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch_dtype("auto", GPU) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instructions: False})
    assert torch_dtype("auto", CPU) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instructions: True})
    assert torch_dtype("auto", CPU) == torch.bfloat16
