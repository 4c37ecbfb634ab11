import pytest
import torch

from verifier_service.fitness import layer_shapes
from verifier_service.kv_budget import kv_tokens, largest_pass, tokens_for_share
from verifier_service.kv_store import LayerShape
from verifier_service.settings import VerifierSettings

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


def layer(device: torch.device, num_bytes: int) -> LayerShape:
    return LayerShape(1, num_bytes // 4, num_bytes // 4, torch.bfloat16, device)


@pytest.mark.parametrize(("share", "num_tokens"), [(1.0, 100), (0.9, 90), (0.005, 0)])
def test_a_share_of_what_is_left_buys_whole_tokens(share, num_tokens) -> None:
    assert tokens_for_share([layer(FIRST, 40)] * 3, {FIRST: 120 * 100 + 5}, share) == num_tokens


def test_the_device_with_the_least_room_for_its_own_layers_decides() -> None:
    layers = [layer(FIRST, 40), layer(SECOND, 40), layer(SECOND, 40)]
    assert tokens_for_share(layers, {FIRST: 4000, SECOND: 4000}, 1.0) == 50
    assert tokens_for_share(layers, {FIRST: 400, SECOND: 4000}, 1.0) == 10
    assert tokens_for_share(layers, {FIRST: -1, SECOND: 4000}, 1.0) == 0


def test_a_cpu_keeps_to_a_gibibyte_unless_it_is_told_otherwise(llama) -> None:
    layers = layer_shapes(llama)
    num_bytes_a_token = 2 * 2 * (8 + 8) * 4
    assert kv_tokens(llama, layers, VerifierSettings(model="any")) == 2**30 // num_bytes_a_token
    assert kv_tokens(llama, layers, VerifierSettings(model="any", kv_bytes=2560)) == 2560 // num_bytes_a_token
    assert kv_tokens(llama, layers, VerifierSettings(model="any", kv_bytes=2560, kv_tokens=77)) == 77


@pytest.mark.parametrize(("max_sessions", "num_choices"), [(2, 34), (64, 300)])
def test_the_largest_pass_has_all_tokens_and_all_logits_that_a_pass_may_have(
    llama, make_memory, max_sessions, num_choices
) -> None:
    settings = VerifierSettings(
        model="any", max_pass_tokens=300, max_sessions=max_sessions, max_tree_nodes=16, page_tokens=4
    )
    layout = largest_pass(settings, llama.max_context_tokens)
    assert len(layout.token_ids) == 300
    runner, _ = make_memory(llama, num_pages=len(layout.cleared), page_tokens=4)
    assert runner.run(layout).shape == (num_choices, llama.vocab_size)
