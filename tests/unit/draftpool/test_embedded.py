"""The embedded models are where their names say."""

import json

import pytest

from draftpool.embedded import EMBEDDED_MODELS, UnknownEmbeddedModel, embedded_path

MAX_TOTAL_BYTES = 60_000_000


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_a_model_is_complete(name):
    files = {path.name for path in embedded_path(name).iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_every_id_of_the_model_is_a_token(name):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(embedded_path(name) / "tokenizer.json"))
    config = json.loads((embedded_path(name) / "config.json").read_text(encoding="utf-8"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert tokenizer.id_to_token(config["eos_token_id"]) == "<|endoftext|>"


def test_the_targets_tokenizers_differ_and_the_drafter_shares_one():
    llama, neox, drafter = ((embedded_path(name) / "tokenizer.json").read_bytes() for name in EMBEDDED_MODELS)
    assert llama == drafter
    assert llama != neox


def test_together_they_stay_small():
    folders = map(embedded_path, EMBEDDED_MODELS)
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) <= MAX_TOTAL_BYTES


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UnknownEmbeddedModel, match=r"'tiny'.*tiny-llama, tiny-neox, tiny-mamba-drafter"):
        embedded_path("tiny")
