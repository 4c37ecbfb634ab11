"""Training learns, and an interrupted run is the same run."""

import pytest
import torch
import transformers

from training.architectures import ARCHITECTURES, Architecture
from training.batches import MixtureBatches
from training.checkpoint import Progress, load_weights
from training.evaluate import score_documents
from training.models import build_model, logits_function
from training.optimizer import split_parameters
from training.schedule import Schedule
from training.train import StepShape, Trainer

SHAPE = StepShape(num_windows=2, window_length=16)
NUM_STEPS = 6
SCHEDULE = Schedule(total_tokens=NUM_STEPS * SHAPE.num_tokens, decay_start_tokens=100, warmup_tokens=32)


class StoppingBatches(MixtureBatches):
    """Batches that ask for a stop when one step's batch is drawn."""

    def stop_at(self, step, stop):
        self.stopping_step, self.stop = step, stop

    def batch(self, step, num_windows, window_length):
        if step == self.stopping_step:
            self.stop()
        return super().batch(step, num_windows, window_length)


@pytest.fixture
def architecture(tokenizer):
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return Architecture(config, "unused", ("o_proj.weight", "down_proj.weight"))


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_an_interrupted_run_ends_with_the_same_weights(architecture, corpus, tokenizer, tmp_path):
    whole = build_model(architecture, seed=0)
    Trainer(whole, MixtureBatches(corpus, tokenizer, 0), SHAPE, tmp_path / "whole.pt").run(Progress(SCHEDULE))

    batches = StoppingBatches(corpus, tokenizer, 0)
    interrupted = Trainer(build_model(architecture, seed=0), batches, SHAPE, tmp_path / "parts.pt")
    batches.stop_at(2, interrupted.request_stop)
    interrupted.run(Progress(SCHEDULE))

    model = build_model(architecture, seed=1)
    resumed = Trainer(model, MixtureBatches(corpus, tokenizer, 0), SHAPE, tmp_path / "parts.pt")
    progress = resumed.resume(SCHEDULE.total_tokens)
    assert progress.step == 3
    resumed.run(progress)
    torch.testing.assert_close(weights(model), weights(whole))


def test_training_lowers_the_loss_and_the_checkpoint_holds_the_weights(architecture, corpus, tokenizer, tmp_path):
    model = build_model(architecture, seed=0)
    documents = corpus.gsm8k.held_out
    before = score_documents(logits_function(model), tokenizer, documents)
    schedule = Schedule(total_tokens=60 * SHAPE.num_tokens, decay_start_tokens=1000, warmup_tokens=64)
    Trainer(model, MixtureBatches(corpus, tokenizer, 0), SHAPE, tmp_path / "run.pt").run(Progress(schedule))

    restored = build_model(architecture, seed=1)
    progress = load_weights(tmp_path / "run.pt", restored)
    after = score_documents(logits_function(restored), tokenizer, documents)
    assert progress.seen_tokens == schedule.total_tokens
    assert after.loss < before.loss - 0.5
    assert after.num_tokens == before.num_tokens


def test_muon_gets_hidden_matrices_and_never_the_tied_embedding(architecture):
    model = build_model(architecture, seed=0)
    matrices, others = split_parameters(model)
    assert len(matrices) == 2 * 7
    assert all(parameter.ndim == 2 for parameter in matrices)
    assert any(parameter is model.get_input_embeddings().weight for parameter in others)
    assert len(matrices) + len(others) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny-llama", 14.7), ("tiny-neox", 11.05), ("tiny-mamba-drafter", 2.33)]
)
def test_the_models_have_the_size_they_claim(name, millions):
    model = build_model(ARCHITECTURES[name](), seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
