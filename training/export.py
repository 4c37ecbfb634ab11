"""Turn a checkpoint into a folder that Transformers loads: bfloat16 weights, tokenizer and model card.

    python -m training.export tiny-llama --gsm8k gsm8k_train.jsonl --run-dir runs

It may run while training goes on: checkpoints are replaced whole, and so are the exported files.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import torch

import draftpool.embedded
from training.architectures import ARCHITECTURES
from training.bpe import load_tokenizer, tokenizer_folder
from training.card import model_card
from training.checkpoint import checkpoint_path, load_weights
from training.evaluate import score_held_out
from training.memory import keep_freed_memory
from training.models import build_model, load_saved, save_rounded
from training.text import load_corpus

EMBEDDED_FOLDER = Path(draftpool.embedded.__file__).parent


def replace_files(source: Path, destination: Path) -> None:
    """Move every file of `source` over its namesake in `destination`, each atomically and readable by all."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        path.chmod(0o644)
        os.replace(path, destination / path.name)


def export(name: str, gsm8k_path: Path, run_dir: Path, destination: Path) -> str:
    """Export one model's checkpoint and measure what was written.

    Returns:
        The model card.
    """
    architecture = ARCHITECTURES[name]()
    model = build_model(architecture, seed=0)
    progress = load_weights(checkpoint_path(run_dir, name), model)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{name}-") as unfinished:
        folder = Path(unfinished)
        save_rounded(model, folder)
        shutil.copytree(tokenizer_folder(run_dir, architecture.tokenizer), folder, dirs_exist_ok=True)
        scores = score_held_out(load_saved(folder), load_tokenizer(folder), load_corpus(gsm8k_path))
        card = model_card(name, folder, architecture.config, progress, scores)
        (folder / "README.md").write_text(card, encoding="utf-8")
        replace_files(folder, destination)
    return card


def main() -> None:
    """Export one model and print its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(ARCHITECTURES))
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's training split (JSON lines)")
    parser.add_argument("--run-dir", type=Path, required=True, help="where all artefacts of training went")
    parser.add_argument("--out", type=Path, default=EMBEDDED_FOLDER, help="parent of the model's folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(export(arguments.name, arguments.gsm8k, arguments.run_dir, arguments.out / arguments.name))


if __name__ == "__main__":
    main()
