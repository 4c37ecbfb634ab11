import pytest
import torch
from torch import nn

from verifier_service.packed_linear import PackedLinear, pack_linear_layers

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


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
