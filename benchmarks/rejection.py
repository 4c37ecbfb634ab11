"""Tokens per verify pass under the rejection rule, beside the coupled rule at equal shapes, and the requests' sizes.

    python -m benchmarks.rejection --gsm8k gsm8k.jsonl --humaneval humaneval.jsonl --spec-bench spec_bench.jsonl

Under the coupled rule a target writes each text once and drafts are held against it. Under the rejection rule what is
written depends on the drafts, so drafter and target go through every text together; both rules write texts of the same
law. No figure here is a time; the machine does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import mean
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance import PAPER
from benchmarks.prompts import read_suites
from benchmarks.replay import Writer, embedded_drafter, replay
from drafter_service.engine import DraftJob
from drafter_service.replica import DrafterReplica
from drafter_service.session import Session as DraftSession
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree, TreeShape, chain
from draftpool.v1 import tree_pb2, verifier_pb2
from draftpool.wire import rows_to_wire, tree_to_wire
from orchestrator.rejection import accept_drawn_path, rejection_uniforms
from orchestrator.sparse_laws import SparseLaws, draft_laws
from orchestrator.target_laws import target_laws
from verifier_service.choosing import Choice, Chooser
from verifier_service.job import VerifyJob
from verifier_service.session import Session as VerifySession
from verifier_service.support import Support

SHAPES = (chain(2), chain(5), TreeShape((2, 2, 1, 1)), PAPER)

console = Console(width=120)
app = typer.Typer(add_completion=False)


@dataclass
class Text:
    """A prompt that is being continued.

    Attributes:
        unsent: tokens that the services have not been told yet.
        per_pass: tokens that each verify pass brought.
        request_bytes: of each request to the verifier.
    """

    drafting: DraftSession
    verifying: VerifySession
    params: SamplingParams
    unsent: tuple[int, ...]
    num_tokens: int
    num_left: int
    per_pass: list[int] = field(default_factory=list)
    request_bytes: list[int] = field(default_factory=list)

    def commit(self, token_ids: Sequence[int], eos_token_ids: Sequence[int]) -> None:
        """Take what a pass brought, up to the end of the text or to as many as are wanted."""
        end = next((place for place, token_id in enumerate(token_ids) if token_id in eos_token_ids), None)
        kept = tuple(token_ids[:end][: self.num_left])
        if kept:
            self.per_pass.append(len(kept))
        self.unsent = kept
        self.num_tokens += len(kept)
        self.num_left = 0 if end is not None else self.num_left - len(kept)


def write_drawn(
    writer: Writer,
    drafter: DrafterReplica,
    bridge: VocabularyBridge,
    shape: TreeShape,
    prompts: Sequence[str],
    temperature: float,
    max_new_tokens: int,
) -> list[Text]:
    """Continue all prompts by the rejection rule; the seed is the prompt's number."""
    texts = []
    for seed, prompt_ids in enumerate(writer.encode(prompts)):
        params = SamplingParams(temperature=temperature, seed=seed)
        sessions = (
            DraftSession(bridge, params, is_drawn=True),
            writer.engine.new_session(Chooser(params, writer.target.vocab_size)),
        )
        texts.append(Text(*sessions, params, prompt_ids, len(prompt_ids), max_new_tokens))
    while active := [text for text in texts if text.num_left > 0]:
        _round(writer, drafter, shape, active)
    for text in texts:
        drafter.engine.close_session(text.drafting)
        writer.engine.close_session(text.verifying)
    return texts


@torch.inference_mode()
def _round(writer: Writer, drafter: DrafterReplica, shape: TreeShape, texts: Sequence[Text]) -> None:
    """One draft, verify, accept for every text."""
    drafts = [DraftJob(text.drafting, text.unsent, shape) for text in texts]
    while waiting := [job for job in drafts if job.is_open]:
        drafter.engine.turn(waiting)
    found = [job.future.result() for job in drafts]
    drawn = [
        draft_laws(rows_to_wire(draft.supports), draft.tree, writer.target.vocab_size)
        if draft.tree.num_nodes
        else SparseLaws.empty(1)
        for draft in found
    ]
    verdicts = [
        VerifyJob(text.verifying, text.unsent, draft.tree, support=_support(laws))
        for text, draft, laws in zip(texts, found, drawn, strict=True)
    ]
    while unanswered := [verdict for verdict in verdicts if verdict.is_open]:
        writer.engine.turn(unanswered)
    for text, draft, laws, verdict in zip(texts, found, drawn, verdicts, strict=True):
        text.request_bytes.append(_request(text, draft.tree, laws).ByteSize())
        token_ids = _accepted(text, draft.tree, laws, verdict.future.result().choice)
        text.commit(token_ids, writer.target.vocabulary.eos_token_ids)


def _request(text: Text, tree: DraftTree, laws: SparseLaws) -> verifier_pb2.VerifyRequest:
    support = tree_pb2.SparseRows(row_lengths=laws.row_lengths.tolist(), token_ids=laws.token_ids.tolist())
    return verifier_pb2.VerifyRequest(committed_token_ids=text.unsent, tree=tree_to_wire(tree), draft_support=support)


def _accepted(text: Text, tree: DraftTree, laws: SparseLaws, choice: Choice) -> tuple[int, ...]:
    reply = verifier_pb2.VerifyReply(
        target_probs=tree_pb2.SparseRows(probs=choice.support_probs),
        outside_probs=choice.outside_probs,
        outside_token_ids=choice.token_ids,
    )
    target = target_laws(reply, laws, has_logprobs=False)
    uniforms = rejection_uniforms(text.params.seed, text.num_tokens, tree)
    return accept_drawn_path(tree, laws, target, uniforms).token_ids


def _support(laws: SparseLaws) -> Support:
    return Support(tuple(laws.row_lengths.tolist()), tuple(laws.token_ids.tolist()))


def compare(drafter: DrafterReplica, name: str, data: dict[str, list[str]], max_new_tokens: int, threads: int) -> None:
    writer = Writer(name, dtype="float32", num_threads=threads)
    bridge = VocabularyBridge(drafter.speller, writer.target.vocabulary)
    for temperature in (1.0, 0.7):
        table = Table(title=f"{name}, temperature {temperature:g}: tokens per pass")
        for column in (
            "prompts",
            "shape",
            "coupled",
            "rejection",
            "difference",
            "standard error",
            "request, bytes",
            "largest",
        ):
            table.add_column(column, justify="right")
        for kind, prompts in data.items():
            written = writer.write(prompts, temperature, max_new_tokens)
            for shape in SHAPES:
                coupled = replay(drafter, bridge, shape, written).tokens_per_pass
                texts = write_drawn(writer, drafter, bridge, shape, prompts, temperature, max_new_tokens)
                passes = [num_tokens for text in texts for num_tokens in text.per_pass]
                sizes = [size for text in texts for size in text.request_bytes[1:]]  # the first carries the prompt
                rejection = sum(passes) / len(passes)
                gain = f"{rejection / coupled - 1:+.1%}"
                error = sqrt(sum((num - rejection) ** 2 for num in passes)) / len(passes)
                cells = (f"{coupled:.2f}", f"{rejection:.2f}", gain, f"{error:.2f}")
                table.add_row(kind, str(shape), *cells, f"{mean(sizes):.0f}", str(max(sizes)))
            table.add_section()
        console.print(table)


@app.command()
def main(
    gsm8k: Annotated[Path | None, typer.Option(help="Problems, JSON lines with question and answer.")] = None,
    humaneval: Annotated[Path | None, typer.Option(help="JSON lines with a prompt.")] = None,
    spec_bench: Annotated[Path | None, typer.Option(help="JSON lines with turns.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Embedded ones; both without.")] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 40,
    max_new_tokens: Annotated[int, typer.Option(min=2)] = 96,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Compare the two rules on the embedded models; without files, on the demo's prompts."""
    torch.set_grad_enabled(False)
    drafter = embedded_drafter(threads, max_sessions=64)
    data = read_suites(gsm8k, humaneval, spec_bench, num_prompts)
    for name in target or ("tiny-llama", "tiny-neox"):
        compare(drafter, name, data, max_new_tokens, threads)
    drafter.close()


if __name__ == "__main__":
    app()
