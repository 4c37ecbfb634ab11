import pytest
import torch
from torch import nn

from draftpool import packed_linear
from draftpool.packed_linear import PackedLinear, can_pack, pack_linear_layers

needs_onednn = pytest.mark.skipif(not can_pack(), reason="oneDNN has no packed bfloat16 products on this processor")


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 46])
@torch.inference_mode()
def test_a_packed_layer_gives_the_same_bits(bias, num_rows) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 80, bias=bias).to(torch.bfloat16)
    inputs = torch.randn(1, num_rows, 48, dtype=torch.bfloat16)
    assert torch.equal(PackedLinear(linear)(inputs), linear(inputs))


@needs_onednn
def test_only_plain_linear_layers_in_bfloat16_are_packed() -> None:
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16), nn.Linear(4, 4), nn.Embedding(4, 4), nn.LayerNorm(4))
    kinds = [type(layer) for layer in model]
    pack_linear_layers(model)
    assert [type(layer) for layer in model] == [PackedLinear, *kinds[1:]]


def test_a_processor_without_packed_products_keeps_its_layers(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16))
    pack_linear_layers(model)
    assert type(model[0]) is nn.Linear


def test_a_layer_that_was_hooked_or_whose_weight_is_of_another_class_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(packed_linear, "can_pack", lambda: True)

    class OtherWeight(nn.Parameter):
        """As quantisation and tensor parallelism make them."""

    hooked, other = (nn.Linear(4, 4, dtype=torch.bfloat16) for _ in range(2))
    hooked.forward = lambda inputs: inputs
    other.weight = OtherWeight(other.weight.detach())
    model = nn.Sequential(hooked, other)
    pack_linear_layers(model)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
