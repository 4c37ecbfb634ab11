import json
import shutil

import pytest
import torch
from transformers import LlamaForCausalLM

from draftpool.errors import BadParameter, ModelNotServable
from verifier_service.fitness import check_trees, layer_shapes
from verifier_service.kv_store import LayerShape
from verifier_service.loading import load_target
from verifier_service.placement import Placement
from verifier_service.replica import VerifierReplica
from verifier_service.settings import VerifierSettings


def test_a_target_knows_what_others_ask_of_it(llama, llama_folder) -> None:
    assert llama.name == "tiny-llama"
    assert llama.architecture == "llama"
    assert llama.dtype == torch.float32
    assert llama.vocab_size == 272
    assert llama.max_context_tokens == 128
    assert llama.vocabulary.eos_token_ids == (256,)
    assert llama.vocabulary.token_bytes[256:] == (b"",) * 16
    assert set(llama.vocabulary.token_bytes[:256]) == {bytes([byte]) for byte in range(256)}
    assert llama.unused_ids.tolist() == list(range(257, 272))
    assert llama.tokenizer_json == (llama_folder / "tokenizer.json").read_text()
    assert llama.num_parameters == LlamaForCausalLM.from_pretrained(llama_folder).num_parameters()


def test_what_a_layer_caches_is_read_off_the_running_model(llama, neox) -> None:
    assert (
        layer_shapes(llama)
        == [LayerShape(2, key_dim=8, value_dim=8, dtype=torch.float32, device=torch.device("cpu"))] * 2
    )
    assert (
        layer_shapes(neox)
        == [LayerShape(2, key_dim=16, value_dim=16, dtype=torch.float32, device=torch.device("cpu"))] * 2
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_good_model_passes_the_check_in_every_type(dtype, llama_folder, neox_folder, make_memory) -> None:
    for folder in (llama_folder, neox_folder):
        target = load_target(str(folder), dtype=dtype)
        runner, pool = make_memory(target)
        check_trees(target, runner, pool)
        assert pool.num_held == 0


def test_a_model_whose_positions_are_not_ours_is_found_out(llama, make_memory, monkeypatch) -> None:
    run = type(llama).run
    monkeypatch.setattr(
        type(llama), "run", lambda self, ids, positions, rows, attention: run(self, ids, 0 * positions, rows, attention)
    )
    with pytest.raises(ModelNotServable, match="otherwise than its paths"):
        check_trees(llama, *make_memory(llama))


def test_a_folder_without_a_model_or_a_tokenizer_is_refused(tmp_path, llama_folder) -> None:
    with pytest.raises(ModelNotServable, match="cannot be loaded"):
        load_target(str(tmp_path))
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotServable, match=r"no tokenizer\.json"):
        load_target(str(folder))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, llama_folder) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text())
    description["model"]["vocab"]["too much"] = 272
    path.write_text(json.dumps(description))
    with pytest.raises(ModelNotServable, match="token id 272"):
        load_target(str(folder))


def test_a_device_that_does_not_exist_is_refused(llama_folder) -> None:
    with pytest.raises(BadParameter, match="nonsense"):
        load_target(str(llama_folder), placement=Placement("nonsense"))


def test_settings_that_do_not_fit_together_are_refused(llama_folder) -> None:
    with pytest.raises(ModelNotServable, match="not even a tree"):
        VerifierReplica(VerifierSettings(model=str(llama_folder), kv_tokens=100, max_tree_nodes=100))
    with pytest.raises(BadParameter, match="must hold a prefill chunk"):
        VerifierReplica(VerifierSettings(model=str(llama_folder), max_pass_tokens=300, prefill_chunk_tokens=256))


def test_an_unknown_setting_is_an_error(llama_folder) -> None:
    with pytest.raises(ValueError, match="kv_token"):
        VerifierSettings(model=str(llama_folder), kv_token=5)
