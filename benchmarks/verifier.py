"""The verifier's engine against transformers' own ways to serve many at once, in one process.

`python -m benchmarks.verifier` decodes the same texts greedily, so many sessions in lock-step: with our engine, with
`generate` over a padded batch, and with transformers' continuous batching; all in turn, medians, as tokens a second.
Then what a tree of 16 nodes costs, what a pass spends outside of the model, and what a shared beginning saves.
"""

from __future__ import annotations

import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.gpu_shapes import random_target
from draftpool.embedded import embedded_path
from draftpool.packed_linear import pack_linear_layers
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser
from verifier_service.engine import TargetEngine
from verifier_service.fitness import layer_shapes
from verifier_service.job import Verdict, VerifyJob
from verifier_service.kv_store import KvStore
from verifier_service.limits import EngineLimits
from verifier_service.loading import load_target
from verifier_service.packing import PassLayout
from verifier_service.pages import PagePool
from verifier_service.runner import PassRunner, Runner
from verifier_service.schedule import PassLimits
from verifier_service.target import Target

LLAMA_100M = LlamaConfig(
    vocab_size=32000,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_key_value_heads=4,
    intermediate_size=2048,
    max_position_embeddings=2048,
    initializer_range=0.05,
)

_NUM_PAGES, _PAGE_TOKENS = 1024, 16
_TREE_PARENTS = (-1, -1, -1, 0, 0, 1, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13)
"""16 nodes, 6 deep: three children of the root, and narrower below."""

Texts = Sequence[list[int]]
System = Callable[[Texts, int], list[list[int]]]
"""Continues each text greedily by so many tokens."""

console = Console(width=max(100, Console().width))
app = typer.Typer(add_completion=False)


class TimedRunner:
    """A runner that notes how long the model takes."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.seconds = 0.0

    def run(self, layout: PassLayout) -> torch.Tensor:
        begun = time.perf_counter()
        logits = self._runner.run(layout)
        self.seconds += time.perf_counter() - begun
        return logits


class Ours:
    """Our engine, without gRPC. Every call begins with an empty cache."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._store = KvStore(layer_shapes(target), _NUM_PAGES, _PAGE_TOKENS)

    def fresh_engine(self) -> tuple[TargetEngine, TimedRunner]:
        limits = EngineLimits(64, target_limit(self.target), 64, PassLimits(2048, 1024))
        runner = TimedRunner(PassRunner(self.target, self._store))
        return TargetEngine(runner, PagePool(_NUM_PAGES, _PAGE_TOKENS), limits, self.target.vocab_size), runner

    def generate(self, texts: Texts, num_tokens: int) -> list[list[int]]:
        engine, _ = self.fresh_engine()
        sessions = [engine.new_session(greedy(self.target)) for _ in texts]
        committed, answers = list(texts), [[] for _ in texts]  # type: list[list[int]], list[list[int]]
        for _ in range(num_tokens):
            jobs = [VerifyJob(session, tokens) for session, tokens in zip(sessions, committed, strict=True)]
            committed = [[verdict.choice.token_ids[0]] for verdict in answers_to(engine, jobs)]
            for answer, tokens in zip(answers, committed, strict=True):
                answer += tokens
        return answers


def greedy(target: Target) -> Chooser:
    return Chooser(SamplingParams(temperature=0), target.vocab_size)


def target_limit(target: Target) -> int:
    return min(target.max_context_tokens, 2048)


def answers_to(engine: TargetEngine, jobs: Sequence[VerifyJob]) -> list[Verdict]:
    while waiting := [job for job in jobs if job.is_open]:
        engine.turn(waiting)
    return [job.future.result() for job in jobs]


def padded_generate(model: Any) -> System:
    """`generate` over a batch padded on the left."""

    def run(texts: Texts, num_tokens: int) -> list[list[int]]:
        longest = max(map(len, texts))
        ids = torch.tensor([[0] * (longest - len(text)) + text for text in texts])
        mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
        lengths = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens}
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=0, **lengths)
        answers: list[list[int]] = out[:, longest:].tolist()
        return answers

    return run


def continuous_batching(model: Any) -> System:
    """transformers' continuous batching over its paged cache."""

    def run(texts: Texts, num_tokens: int) -> list[list[int]]:
        config = model.generation_config.__class__(
            max_new_tokens=num_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        outputs = model.generate_batch(
            [list(text) for text in texts], generation_config=config, persistent_manager=True, warmup=False
        )
        by_prompt = sorted(outputs.values(), key=lambda output: int(output.request_id.rsplit("_", 1)[-1]))
        return [list(output.generated_tokens) for output in by_prompt]

    return run


def random_texts(number: int, vocab_size: int) -> list[list[int]]:
    """Of 60 to 160 tokens."""
    source = random.Random(number)
    return [[source.randrange(10, vocab_size - 10) for _ in range(source.randrange(60, 160))] for _ in range(number)]


def throughput(systems: dict[str, System], texts: Texts, num_tokens: int, repetitions: int) -> dict[str, float]:
    """Median tokens a second of each, in turn; a system that cannot do it is left out, and said."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    answers: dict[str, list[list[int]]] = {}
    for repetition in range(repetitions + 1):
        for name, system in list(systems.items()):
            begun = time.perf_counter()
            try:
                answers[name] = system(texts, num_tokens)
            except Exception as error:  # whatever another system fails with is a result
                console.print(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")
                del systems[name]
                continue
            if repetition > 0:  # the first time is for warming up
                seconds[name].append(time.perf_counter() - begun)
    ours = answers["ours"]
    for name, others in answers.items():
        num_other = sum(mine != theirs for mine, theirs in zip(ours, others, strict=True))
        if num_other:
            console.print(f"{name} continues {num_other} of {len(texts)} texts otherwise than ours")
    return {name: len(texts) * num_tokens / statistics.median(seconds[name]) for name in systems}


def pass_costs(ours: Ours, num_sessions: int, num_passes: int) -> tuple[float, float, float]:
    """Median seconds of a pass without trees, of one with a 16-node tree a session, and the share outside the model."""
    engine, runner = ours.fresh_engine()
    texts = random_texts(num_sessions, ours.target.vocab_size)
    sessions = [engine.new_session(greedy(ours.target)) for _ in texts]
    tree = DraftTree(tuple(range(20, 36)), _TREE_PARENTS)
    answers_to(engine, [VerifyJob(session, text) for session, text in zip(sessions, texts, strict=True)])
    seconds: dict[DraftTree, list[float]] = {EMPTY_TREE: [], tree: []}
    shares = []
    for _ in range(num_passes):
        for kind, found in seconds.items():
            runner.seconds, begun = 0.0, time.perf_counter()
            answers_to(engine, [VerifyJob(session, [15], kind) for session in sessions])
            found.append(time.perf_counter() - begun)
            shares.append(1 - runner.seconds / found[-1])
    return statistics.median(seconds[EMPTY_TREE]), statistics.median(seconds[tree]), statistics.median(shares)


def prefix_gain(ours: Ours, repetitions: int) -> float:
    """How many times longer 500 shared tokens and 8 own ones take the first request than the second."""
    ratios = []
    for repetition in range(repetitions):
        engine, _ = ours.fresh_engine()
        source = random.Random(repetition)
        beginning = [source.randrange(10, 4000) for _ in range(500)]
        seconds = []
        for last in (11, 12):
            begun = time.perf_counter()
            answers_to(engine, [VerifyJob(engine.new_session(greedy(ours.target)), [*beginning, *[last] * 8])])
            seconds.append(time.perf_counter() - begun)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def measure(ours: Ours, model: Any, concurrencies: Sequence[int], num_tokens: int, repetitions: int) -> None:
    systems = {
        "ours": ours.generate,
        "generate": padded_generate(model),
        "continuous batching": continuous_batching(model),
    }
    table = Table(title=f"{ours.target.name}, {ours.target.dtype}, {torch.get_num_threads()} threads")
    for column in ("sessions", *systems, "ms/pass", "16 nodes", "outside"):
        table.add_column(column, justify="right")
    for number in concurrencies:
        texts = random_texts(number, ours.target.vocab_size)
        rates = throughput(systems, texts, num_tokens, repetitions)
        model.destroy_cached_continuous_batching_manager()  # it is sized for its first texts
        plain, with_tree, outside = pass_costs(ours, number, num_passes=5 * repetitions)
        cells = [
            f"{rates[name]:.0f} ({rates['ours'] / rates[name]:.2f}x)" if name in rates else "-" for name in systems
        ]
        table.add_row(
            str(number),
            *cells,
            *[""] * (3 - len(cells)),
            f"{1e3 * plain:.1f}",
            f"{with_tree / plain:.2f}x",
            f"{outside:.1%}",
        )
    console.print(table)
    console.print(
        f"A request whose first 500 tokens are known is {prefix_gain(ours, repetitions):.0f}x faster to begin."
    )


@app.command()
def main(
    sessions: Annotated[str, typer.Option(help="How many at once, one after the other.")] = "1,2,4,8,16,32",
    new_tokens: Annotated[int, typer.Option(min=2)] = 32,
    repetitions: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    dtype: str = "auto",
) -> None:
    """Measure on the embedded tiny-llama and on a Llama of 100 million random weights."""
    torch.set_num_threads(threads)
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    concurrencies = [int(number) for number in sessions.split(",")]
    folder = str(embedded_path("tiny-llama"))
    tiny = load_target(folder, dtype=dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=tiny.dtype)
    measure(Ours(tiny), model, concurrencies, new_tokens, repetitions)
    large = random_target("Llama of 100M", deepcopy(LLAMA_100M), tiny.dtype, torch.device("cpu"))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(LLAMA_100M), dtype=tiny.dtype)  # type: ignore[no-untyped-call]
    model.requires_grad_(False).train(False)
    pack_linear_layers(large.model)  # as loading a target does
    measure(Ours(large), model, concurrencies, new_tokens, repetitions)


if __name__ == "__main__":
    app()
