"""What is loaded, and what is refused, by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import Mamba2Config, Mamba2ForCausalLM

from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.mamba.weights import RecurrentWeights, load_mamba
from drafter_service.replica import DrafterReplica
from drafter_service.settings import DrafterSettings
from drafter_service.vocabulary.tokenizer_file import read_tokenizer
from draftpool.errors import ModelNotServable
from tests.unit.drafter_service.checkpoints import (
    MAMBA1,
    MAMBA2,
    MAMBA2_IN_GROUPS,
    PADDED_ROWS,
    VOCAB_SIZE,
    random_model,
    write_original,
)

TOKENS = list(range(40))


def load(folder: Path, **options: Any) -> RecurrentWeights:
    return load_mamba(str(folder), dtype=torch.float32, device="cpu", **options)


def logits_after(weights: RecurrentWeights, token_ids: list[int]) -> torch.Tensor:
    model = RecurrentModel(weights, 1)
    model.reset(0)
    model.prefill(token_ids[:-1], 0)
    return model.step(token_ids[-1:], [0], [0])[0]


def test_what_is_not_mamba_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotServable, match="cannot read"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelNotServable, match="'gpt2'"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"d_model": 8}')
    with pytest.raises(ModelNotServable, match="cannot read"):
        load(tmp_path)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("config", [MAMBA1, MAMBA2], ids=["mamba1", "mamba2"])
def test_other_activations_are_refused(tmp_path: Path, config: Any, activation: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"hidden_act": activation}))
    with pytest.raises(ModelNotServable, match=f"hidden_act '{activation}'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attn_layer_idx": [1]}, r"hybrid: layers \[1\] are attention"),
        ({"d_intermediate": 64}, "MLP layers"),
        ({"rms_norm": False}, "layer norms"),
        ({"ssm_cfg": {"layer": "Mamba3"}}, "'Mamba3'"),
        ({"ssm_cfg": {"layer": "Mamba2", "norm_before_gate": True}}, "norm_before_gate True"),
        ({"ssm_cfg": {"layer": "Mamba2", "rmsnorm": False}}, "rmsnorm False"),
        ({"ssm_cfg": {"layer": "Mamba2", "d_ssm": 8}}, "d_ssm 8"),
        ({"ssm_cfg": {"surprise": 1}}, "'surprise'"),
        ({"n_layer": 3}, r"lacks 'backbone\.layers\.2\."),
    ],
)
def test_variants_that_are_not_built_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write_original(random_model(MAMBA1), tmp_path, **changes)
    with pytest.raises(ModelNotServable, match=reason):
        load(tmp_path)


def test_transformers_does_not_make_up_what_is_missing(tmp_path: Path) -> None:
    random_model(MAMBA2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelNotServable, match=r"lacks 'backbone\.layers\.2\."):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_heads": 5}))
    with pytest.raises(ModelNotServable, match="Inconsistent configuration"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"state_size": 16}))
    with pytest.raises(ModelNotServable, match="cannot read"):
        load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    write_original(random_model(MAMBA2), tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ModelNotServable, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(ModelNotServable, match="cannot read the weights"):
        load(tmp_path)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    write_original(random_model(MAMBA1), tmp_path)
    torch.save({"backbone.embedding.weight": Path("/")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelNotServable, match="cannot read the weights"):
        load(tmp_path)


def test_time_steps_keep_to_their_limits_in_prefill_and_in_steps(tmp_path: Path) -> None:
    limits = (0.02, 0.3)
    reference = random_model(Mamba2Config(**MAMBA2.to_dict() | {"time_step_limit": limits}))
    reference.save_pretrained(tmp_path / "hf")
    (tmp_path / "original").mkdir()
    ssm_config = {"layer": "Mamba2", "d_state": 8, "headdim": 8, "dt_limit": limits}
    write_original(reference, tmp_path / "original", ssm_cfg=ssm_config)
    with torch.no_grad():
        expected = reference(torch.tensor([TOKENS])).logits[0, -1]
    assert not torch.allclose(expected, logits_after(load_unlimited(reference, tmp_path), TOKENS), atol=1e-2)
    for layout in ("hf", "original"):
        weights = load(tmp_path / layout)
        torch.testing.assert_close(logits_after(weights, TOKENS), expected, rtol=1e-4, atol=1e-4)
        model = RecurrentModel(weights, 1)
        model.reset(0)
        stepped = [model.step([token], [0], [0])[0] for token in TOKENS][-1]
        torch.testing.assert_close(stepped, expected, rtol=1e-4, atol=1e-4)


def load_unlimited(reference: Mamba2ForCausalLM, tmp_path: Path) -> RecurrentWeights:
    (tmp_path / "unlimited").mkdir()
    write_original(reference, tmp_path / "unlimited")
    return load(tmp_path / "unlimited")


def test_a_skip_saved_by_channel_is_the_one_saved_by_head(tmp_path: Path) -> None:
    reference = random_model(MAMBA2_IN_GROUPS)
    write_original(reference, tmp_path)
    by_head = logits_after(load(tmp_path), TOKENS)
    tensors = torch.load(tmp_path / "pytorch_model.bin")
    for name in [name for name in tensors if name.endswith("mixer.D")]:
        tensors[name] = tensors[name].repeat_interleave(MAMBA2_IN_GROUPS.head_dim)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(logits_after(load(tmp_path), TOKENS), by_head)


def test_a_half_precision_checkpoint_computes_in_float32(tmp_path: Path) -> None:
    reference = random_model(MAMBA1).half()
    write_original(reference, tmp_path)
    with torch.no_grad():
        expected = reference.float()(torch.tensor([TOKENS])).logits[0, -1]
    torch.testing.assert_close(logits_after(load(tmp_path), TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_rows_that_pad_the_vocabulary_are_never_computed(tmp_path: Path) -> None:
    write_original(random_model(MAMBA2), tmp_path, vocab_size=PADDED_ROWS)
    assert load(tmp_path).vocab_size == PADDED_ROWS
    weights = load(tmp_path, num_tokens=VOCAB_SIZE - 3)
    assert weights.vocab_size == VOCAB_SIZE - 3
    assert len(logits_after(weights, TOKENS)) == VOCAB_SIZE - 3


def test_a_drafter_may_have_its_tokenizer_from_elsewhere(tmp_path: Path, drafter_tokenizer: Tokenizer) -> None:
    (model := tmp_path / "model").mkdir()
    (elsewhere := tmp_path / "tokenizer").mkdir()
    write_original(random_model(MAMBA2), model)
    with pytest.raises(ModelNotServable, match="`tokenizer` names another place"):
        read_tokenizer(str(model))
    drafter_tokenizer.save(str(elsewhere / "tokenizer.json"))
    (elsewhere / "tokenizer_config.json").write_text('{"eos_token": {"content": "<eos>"}}')
    settings = DrafterSettings(model=str(model), tokenizer=str(elsewhere), state_memory_mib=1, state_dtype="bfloat16")
    replica = DrafterReplica(settings)
    try:
        num_tokens = drafter_tokenizer.get_vocab_size()
        assert replica.model.vocab_size == num_tokens == len(replica.speller.vocabulary)
        assert replica.speller.vocabulary.eos_token_ids == (0,)  # mamba_ssm's configuration names none
    finally:
        replica.close()


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path, drafter_tokenizer: Tokenizer) -> None:
    config = type(MAMBA1)(**MAMBA1.to_dict() | {"vocab_size": 100})
    write_original(random_model(config), tmp_path)
    drafter_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelNotServable, match="do not match"):
        DrafterReplica(DrafterSettings(model=str(tmp_path)))
