"""Train one embedded model on a CPU core.

    python -m training.train tiny-llama --gsm8k gsm8k_train.jsonl --run-dir runs --tokens 6000000

The run stops at its token budget, or at SIGTERM after a last checkpoint. `--resume` goes on from there; with a smaller
`--tokens` it begins to decay at once and ends early, with a usable model.
"""

import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from training.architectures import ARCHITECTURES
from training.batches import MixtureBatches
from training.bpe import load_tokenizer, tokenizer_folder
from training.checkpoint import Progress, checkpoint_path, resume_checkpoint, save_checkpoint
from training.memory import keep_freed_memory
from training.models import build_model, logits_function
from training.optimizer import HybridOptimizer
from training.schedule import Schedule
from training.text import load_corpus

CHECKPOINT_INTERVAL_S = 240.0
LOG_INTERVAL_STEPS = 20


@dataclass(frozen=True)
class StepShape:
    """What one optimizer step sees."""

    num_windows: int
    """Windows in a batch."""
    window_length: int
    """Tokens trained on in a window."""

    @property
    def num_tokens(self) -> int:
        """Tokens trained on in a step."""
        return self.num_windows * self.window_length


def next_token_loss(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Mean cross-entropy, in nats.

    Args:
        logits: (batch, length, vocabulary).
        token_ids: (batch, length + 1) int64.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), token_ids[:, 1:].flatten())


class Trainer:
    """One run: a model, its optimizer, its batches and how far they have come."""

    def __init__(self, model: PreTrainedModel, batches: MixtureBatches, shape: StepShape, path: Path) -> None:
        self._model = model
        self._logits = logits_function(model)
        self._optimizer = HybridOptimizer(model)
        self._batches = batches
        self._shape = shape
        self._path = path
        self._stop_requested = False
        self._loss_average: float | None = None

    def request_stop(self, *_signal: object) -> None:
        """End after the step in progress; fit to be a signal handler."""
        self._stop_requested = True

    def resume(self, total_tokens: int) -> Progress:
        """Go back to the checkpoint, under a budget that may have changed."""
        progress = resume_checkpoint(self._path, self._model, self._optimizer, self._batches)
        progress.schedule = progress.schedule.with_budget(total_tokens, progress.seen_tokens)
        return progress

    def run(self, progress: Progress) -> None:
        """Step until the budget is spent or a stop is requested; leave a checkpoint."""
        saved_at = time.monotonic()
        while progress.seen_tokens < progress.schedule.total_tokens and not self._stop_requested:
            self._timed_step(progress)
            if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S:
                self._save(progress)
                saved_at = time.monotonic()
        self._save(progress)

    def _timed_step(self, progress: Progress) -> None:
        started = time.monotonic()
        loss, norm = self._step(progress)
        progress.step += 1
        progress.seen_tokens += self._shape.num_tokens
        progress.train_seconds += time.monotonic() - started
        average = loss if self._loss_average is None else 0.95 * self._loss_average + 0.05 * loss
        self._loss_average = average
        if progress.step % LOG_INTERVAL_STEPS == 0:
            self._log(progress, average, norm, self._shape.num_tokens / (time.monotonic() - started))

    def _step(self, progress: Progress) -> tuple[float, float]:
        token_ids = self._batches.batch(progress.step, self._shape.num_windows, self._shape.window_length)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self._logits(token_ids[:, :-1])
        loss = next_token_loss(logits, token_ids)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._optimizer.step(progress.schedule.factor(progress.seen_tokens))
        return loss.item(), norm

    def _log(self, progress: Progress, loss: float, norm: float, tokens_per_s: float) -> None:
        mean_tokens_per_s = progress.seen_tokens / progress.train_seconds
        record = {
            "step": progress.step,
            "seen_tokens": progress.seen_tokens,
            "total_tokens": progress.schedule.total_tokens,
            "loss": round(loss, 4),
            "gradient_norm": round(norm, 3),
            "rate_factor": round(progress.schedule.factor(progress.seen_tokens), 4),
            "tokens_per_s": round(tokens_per_s),
            "mean_tokens_per_s": round(mean_tokens_per_s),
            "train_seconds": round(progress.train_seconds),
        }
        print(json.dumps(record), flush=True)

    def _save(self, progress: Progress) -> None:
        save_checkpoint(self._path, self._model, self._optimizer, self._batches, progress)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line of `training.train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(ARCHITECTURES))
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's training split (JSON lines)")
    parser.add_argument("--run-dir", type=Path, required=True, help="where all artefacts of training go")
    parser.add_argument("--tokens", type=int, required=True, help="the token budget of the whole run")
    parser.add_argument("--windows", type=int, help="windows a step; the architecture has its own default")
    parser.add_argument("--window-length", type=int, default=256, help="tokens a window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return parser.parse_args(arguments)


def main() -> None:
    """Train one model from the command line."""
    arguments = parse_arguments(sys.argv[1:])
    torch.set_num_threads(1)
    keep_freed_memory()
    architecture = ARCHITECTURES[arguments.name]()
    tokenizer = load_tokenizer(tokenizer_folder(arguments.run_dir, architecture.tokenizer))
    trainer = Trainer(
        model=build_model(architecture, arguments.seed),
        batches=MixtureBatches(load_corpus(arguments.gsm8k), tokenizer, arguments.seed),
        shape=StepShape(arguments.windows or architecture.num_windows, arguments.window_length),
        path=checkpoint_path(arguments.run_dir, arguments.name),
    )
    signal.signal(signal.SIGTERM, trainer.request_stop)
    start = trainer.resume(arguments.tokens) if arguments.resume else Progress(Schedule.over(arguments.tokens))
    trainer.run(start)


if __name__ == "__main__":
    main()
