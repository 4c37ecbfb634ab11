"""Tokens per verify pass: best-first trees against fixed ones, and the vocabulary bridge against plain intersection.

    python -m benchmarks.acceptance --gsm8k gsm8k.jsonl --humaneval humaneval.jsonl --spec-bench spec_bench.jsonl \
        --train gsm8k_train.jsonl

No figure here is a time; the machine does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.prompts import read_suites
from benchmarks.replay import Writer, Written, embedded_drafter, read_lines, replay
from drafter_service.replica import DrafterReplica
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.embedded import embedded_path
from draftpool.sampling import SamplingParams
from draftpool.tree import TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.vocabulary import Vocabulary

PAPER = TreeShape((3, 2, 2, 1, 1))

RIVALS: Sequence[tuple[TreePolicy, TreePolicy]] = (
    (chain(5), BestFirst(5, 5)),
    (TreeShape((2, 2, 1, 1)), BestFirst(14, 4)),
    (TreeShape((3, 3, 2, 1)), BestFirst(48, 4)),
    (PAPER, BestFirst(45, 5)),
    (TreeShape((2, 2, 2, 1, 1, 1)), BestFirst(38, 6)),
    (PAPER, BestFirst(16, 6)),
    (PAPER, BestFirst(45, 8)),
)
"""A fixed tree, and a best-first one of as many nodes and levels; the last two with fewer nodes and more levels."""

console = Console(width=120)
app = typer.Typer(add_completion=False)


def compare_policies(drafter: DrafterReplica, data: dict[str, list[str]], max_new_tokens: int, threads: int) -> None:
    for target in ("tiny-llama", "tiny-neox"):
        writer = Writer(target, dtype="float32", num_threads=threads)
        bridge = VocabularyBridge(drafter.speller, writer.target.vocabulary)
        for temperature in (0.0, 1.0):
            sampling = "greedy" if temperature == 0 else f"temperature {temperature:g}"
            table = Table(title=f"{target}, {sampling}: tokens per pass (nodes, levels stepped)")
            for column in ("prompts", "fixed", "", "best first", "", "gain"):
                table.add_column(column)
            for name, prompts in data.items():
                texts = writer.write(prompts, temperature, max_new_tokens)
                for fixed, best in RIVALS:
                    ours, theirs = (replay(drafter, bridge, policy, texts) for policy in (best, fixed))
                    cells = [
                        f"{found.tokens_per_pass:.2f} ({found.nodes_per_pass:.1f}, {found.steps_per_pass:.1f})"
                        for found in (theirs, ours)
                    ]
                    gain = ours.tokens_per_pass / theirs.tokens_per_pass - 1
                    table.add_row(name, str(fixed), cells[0], str(best), cells[1], f"{gain:+.1%}")
                table.add_section()
            console.print(table)


def compare_bridges(drafter: DrafterReplica, train: Sequence[str], problems: Sequence[dict[str, str]]) -> None:
    """Against tokenizers trained here. No target has them, so the problems' own answers stand for a target's."""
    table = Table(title="Other tokenizers: tokens per pass on the answers of GSM8K, greedy")
    for column in ("tokens", "shared with the drafter", "tree", "intersection alone", "with spelling", "gain"):
        table.add_column(column, justify="right")
    trained = _byte_level_bpe(train, 9000)
    own = Tokenizer.from_file(str(embedded_path("tiny-mamba-drafter") / "tokenizer.json"))
    for tokenizer in (*(_mixed(own, trained, share) for share in (0.99, 0.8, 0.6)), trained):
        vocab_size = tokenizer.get_vocab_size()
        vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=vocab_size, eos_token_ids=[0])
        bridge = VocabularyBridge(drafter.speller, vocabulary)
        texts = [_as_written(tokenizer, problem) for problem in problems]
        for policy in (chain(5), PAPER, BestFirst(16, 6)):
            plain, spelled = (
                replay(drafter, bridge, policy, texts, is_plain=is_plain).tokens_per_pass for is_plain in (True, False)
            )
            share = f"{bridge.num_shared_tokens / vocab_size:.1%}"
            gain = f"{spelled / plain - 1:+.1%}"
            table.add_row(str(vocab_size), share, str(policy), f"{plain:.2f}", f"{spelled:.2f}", gain)
        table.add_section()
    console.print(table)


def _byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _mixed(first: Tokenizer, second: Tokenizer, share: float) -> Tokenizer:
    """The first tokenizer, the last of its tokens exchanged for tokens of the second until only a share is left."""
    description = json.loads(first.to_str())
    model, others = description["model"], json.loads(second.to_str())["model"]["merges"]
    num_left = int(share * len(model["vocab"]))
    dropped = {token for token, token_id in model["vocab"].items() if token_id >= num_left}
    known = model["vocab"].keys() - dropped
    merges = [[left, right] for left, right in model["merges"] if not {left, right, left + right} & dropped]
    free_ids = list(range(num_left, len(model["vocab"])))
    vocab = {token: token_id for token, token_id in model["vocab"].items() if token in known}
    for left, right in others:
        if left.isdigit() or right.isdigit():  # which the first tokenizer never joins
            continue
        if free_ids and {left, right} <= vocab.keys() and left + right not in model["vocab"]:
            vocab[left + right] = free_ids.pop(0)
            merges.append([left, right])
    model["vocab"], model["merges"] = vocab, merges
    return Tokenizer.from_str(json.dumps(description))


def _as_written(tokenizer: Tokenizer, problem: dict[str, str]) -> Written:
    prompt, answer = (tokenizer.encode(text).ids for text in (_question(problem), " " + problem["answer"]))
    return Written(tuple(prompt), tuple(answer), SamplingParams(temperature=0))


def _question(problem: dict[str, str]) -> str:
    return f"Question: {problem['question']}\nAnswer:"


def _records(path: Path | None, number: int) -> list[dict[str, str]]:
    return [] if path is None else [json.loads(line) for line in read_lines(path)[:number]]


@app.command()
def main(
    gsm8k: Annotated[Path | None, typer.Option(help="Problems, JSON lines with question and answer.")] = None,
    humaneval: Annotated[Path | None, typer.Option(help="JSON lines with a prompt.")] = None,
    spec_bench: Annotated[Path | None, typer.Option(help="JSON lines with turns.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="GSM8K's training problems: what tokenizers are trained on.")
    ] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 30,
    max_new_tokens: Annotated[int, typer.Option(min=2)] = 96,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Compare on the embedded models; without files, on the demo's prompts."""
    torch.set_grad_enabled(False)
    problems = _records(gsm8k, num_prompts)
    drafter = embedded_drafter(threads)
    compare_policies(drafter, read_suites(gsm8k, humaneval, spec_bench, num_prompts), max_new_tokens, threads)
    if train is not None and problems:
        texts = [f"{record['question']}\n{record['answer']}" for record in _records(train, 10**6)]
        compare_bridges(drafter, texts, problems)
    drafter.close()


if __name__ == "__main__":
    app()
