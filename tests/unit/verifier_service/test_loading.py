"""Where weights go and what becomes of them on the way."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM
from transformers.quantizers import quantizer_quanto

from draftpool.errors import BadParameter, ModelNotServable
from draftpool.sampling import SamplingParams
from verifier_service import placement
from verifier_service.choosing import Chooser
from verifier_service.fitness import check_trees
from verifier_service.job import VerifyJob
from verifier_service.loading import load_target
from verifier_service.placement import Placement
from verifier_service.quantization import quantization_config
from verifier_service.target import Target

WHOLE_ON_CPU = json.dumps({"": "cpu"})
PART_BY_PART = json.dumps(dict.fromkeys(("model.embed_tokens", "model.layers", "model.norm", "lm_head"), "cpu"))
QUANTO_INT8 = json.dumps({"quant_method": "quanto", "weights": "int8"})
TORCHAO_INT8 = json.dumps(
    {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}},
    }
)


@pytest.fixture
def tokens_of(make_engine, run_jobs, make_tree, make_ids) -> Callable[[Target], list[tuple[int, ...]]]:
    """What a target chooses for two sessions with trees, one greedy and one not."""

    def choose(target: Target) -> list[tuple[int, ...]]:
        engine = make_engine(target)
        jobs = [
            VerifyJob(engine.new_session(Chooser(params, target.vocab_size)), make_ids(seed, 20), make_tree(seed, 9))
            for seed, params in enumerate((SamplingParams(temperature=0), SamplingParams(temperature=0.7, seed=3)))
        ]
        return [verdict.choice.token_ids for verdict in run_jobs(engine, *jobs)]

    return choose


@pytest.mark.parametrize("device_map", [WHOLE_ON_CPU, PART_BY_PART])
def test_a_device_map_changes_no_token(llama_folder: Path, device_map: str, llama, tokens_of) -> None:
    spread = load_target(str(llama_folder), dtype="float32", placement=Placement(device_map=device_map))
    assert tokens_of(spread) == tokens_of(llama)


@pytest.mark.parametrize("device_map", ["everywhere", "[1, 2]", "{", ""])
def test_a_device_map_is_a_known_name_or_a_json_object(device_map: str) -> None:
    with pytest.raises(BadParameter, match="device_map must be auto, balanced"):
        Placement(device_map=device_map)


def test_a_device_map_excludes_a_device_and_ranks() -> None:
    with pytest.raises(BadParameter, match="device and device_map exclude each other"):
        Placement(device="cpu", device_map="auto")
    with pytest.raises(BadParameter, match="device_map and tensor parallelism exclude each other"):
        Placement(device_map="auto", num_ranks=2)


def test_a_rank_gets_a_device_of_the_machines_own_kind() -> None:
    kind = torch.accelerator.current_accelerator() or torch.device("cpu")
    assert Placement(num_ranks=2).torch_device() == kind
    with pytest.raises(BadParameter, match="every rank runs on"):
        Placement(device="meta", num_ranks=2).torch_device()


@pytest.mark.parametrize(
    "where", [Placement(device_map=WHOLE_ON_CPU), Placement(num_ranks=2)], ids=["device_map", "ranks"]
)
def test_without_accelerate_one_sentence_says_how_to_get_it(llama_folder: Path, where: Placement, monkeypatch) -> None:
    monkeypatch.setattr(placement, "is_accelerate_available", lambda: False)
    with pytest.raises(ModelNotServable, match=r"need accelerate.*pip install 'draftpool\[big\]'"):
        load_target(str(llama_folder), placement=where)


def test_heads_that_ranks_cannot_share_evenly_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotServable, match="2 key value heads, which 4 ranks cannot share evenly"):
        load_target(str(llama_folder), placement=Placement(num_ranks=4))
    config = LlamaConfig(hidden_size=48, num_attention_heads=3, num_key_value_heads=3, num_hidden_layers=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelNotServable, match="3 key value heads, which 2 ranks cannot share evenly"):
        load_target(str(tmp_path), placement=Placement(num_ranks=2))


def test_models_without_a_tensor_parallel_plan_are_refused(tmp_path: Path) -> None:
    config = OPTConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1, ffn_dim=32, word_embed_proj_dim=32)
    OPTForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelNotServable, match=r"no tensor-parallel plan \(base_model_tp_plan\) for opt models"):
        load_target(str(tmp_path), placement=Placement(num_ranks=2))


@pytest.mark.parametrize(
    ("package", "quantization"), [("optimum.quanto", QUANTO_INT8), ("torchao", TORCHAO_INT8)], ids=["quanto", "torchao"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quantised_weights_score_trees_as_their_paths(
    llama_folder: Path, package: str, quantization: str, dtype: str, make_memory, tokens_of
) -> None:
    pytest.importorskip(package, reason="draftpool serves its quantised models, and does without it")
    quantised = load_target(str(llama_folder), dtype=dtype, quantization=quantization)
    weight = quantised.model.model.layers[0].self_attn.q_proj.weight
    assert type(weight) not in (torch.Tensor, torch.nn.Parameter)
    check_trees(quantised, *make_memory(quantised))
    assert [len(token_ids) for token_ids in tokens_of(quantised)] == [10, 10]


def test_a_checkpoint_that_is_quantised_needs_no_setting(llama_folder: Path, tmp_path: Path, tokens_of) -> None:
    pytest.importorskip("torchao", reason="the method here that can save what it has quantised")
    quantised = load_target(str(llama_folder), dtype="float32", quantization=TORCHAO_INT8)
    quantised.model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(quantised.tokenizer_json)
    assert tokens_of(load_target(str(tmp_path), dtype="float32")) == tokens_of(quantised)


@pytest.mark.parametrize(
    "quantization", ["int8", "[]", "{}", '{"quant_method": "magic"}', '{"quant_method": "quanto", "weights": "int3"}']
)
def test_a_quantisation_that_transformers_does_not_know_is_a_bad_parameter(quantization: str) -> None:
    with pytest.raises(BadParameter, match="transformers does not take the quantisation"):
        quantization_config(quantization)


def test_a_method_whose_package_is_missing_is_named(llama_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(quantizer_quanto, "is_optimum_quanto_available", lambda: False)
    with pytest.raises(ModelNotServable, match=r"cannot be loaded: .*requires optimum-quanto"):
        load_target(str(llama_folder), quantization=QUANTO_INT8)
