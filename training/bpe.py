"""Train the two byte-level BPE tokenizers.

    python -m training.bpe --gsm8k gsm8k_train.jsonl --run-dir runs

They differ in size and in the share of Python they learn from, so the same text is cut differently by each target:
the default deployment has to translate between vocabularies, as a real pool does.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.text import Corpus, load_corpus

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
MAX_POSITIONS = 2048


@dataclass(frozen=True)
class TokenizerSpec:
    """What makes one tokenizer differ from the other."""

    vocab_size: int
    """Number of ids, all of which exist."""
    python_bytes: int
    """How much of the Python half it learns from, next to all of GSM8K (about 4 MB)."""


TOKENIZERS = {
    "tiny-llama": TokenizerSpec(vocab_size=8192, python_bytes=1_800_000),
    "tiny-neox": TokenizerSpec(vocab_size=6144, python_bytes=6_000_000),
}


def tokenizer_folder(run_dir: Path, name: str) -> Path:
    """Where `training.bpe` leaves the tokenizer called `name`."""
    return run_dir / "tokenizers" / name


def train_tokenizer(spec: TokenizerSpec, corpus: Corpus) -> Tokenizer:
    """Learn merges from the training halves alone.

    Any Unicode text round-trips exactly: the whole byte alphabet is in the vocabulary, and nothing normalises,
    prefixes or cleans up. Digits stand alone, so a number's length never depends on the merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    python = take_bytes(corpus.python.train, spec.python_bytes)
    tokenizer.train_from_iterator([*corpus.gsm8k.train, *python], trainer)
    if tokenizer.get_vocab_size() != spec.vocab_size:
        raise ValueError(f"the text yields {tokenizer.get_vocab_size()} tokens, not {spec.vocab_size}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the two files from which Transformers' `AutoTokenizer` loads; encoding adds no token of its own."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "model_max_length": MAX_POSITIONS,
        "clean_up_tokenization_spaces": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote, here or beside an exported model."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def take_bytes(documents: list[str], max_bytes: int) -> list[str]:
    """Evenly spaced documents amounting to about `max_bytes` bytes of UTF-8; all of them if they are fewer."""
    total_bytes = sum(len(document.encode()) for document in documents)
    stride = max(1.0, total_bytes / max_bytes)
    num_taken = int(len(documents) / stride)
    return [documents[int(index * stride)] for index in range(num_taken)]


def main() -> None:
    """Train and save every tokenizer in `TOKENIZERS`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's training split (JSON lines)")
    parser.add_argument("--run-dir", type=Path, required=True, help="where all artefacts of training go")
    arguments = parser.parse_args()
    corpus = load_corpus(arguments.gsm8k)
    for name, spec in TOKENIZERS.items():
        save_tokenizer(train_tokenizer(spec, corpus), tokenizer_folder(arguments.run_dir, name))


if __name__ == "__main__":
    main()
