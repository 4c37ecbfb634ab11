"""`draftpool generate`: one generation, streamed."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from draftpool.cli.connection import Connection
from draftpool.cli.consoles import message_console, output_console
from draftpool.cli.rendering import (
    ColourView,
    EventView,
    JsonView,
    PlainView,
    show_generation,
    stats_table,
    summary,
)
from draftpool.cli.shapes import shape_option
from draftpool.client import NO_DRAFT, AcceptanceRule, Client, GenerateOptions, TreePolicy
from draftpool.errors import BadParameter

_length = partial(typer.Option, rich_help_panel="Length")
_sampling = partial(typer.Option, rich_help_panel="Sampling")
_form = partial(typer.Option, rich_help_panel="Form")
_drafts = partial(typer.Option, rich_help_panel="Drafting")
_output = partial(typer.Option, rich_help_panel="Output")


@dataclass(frozen=True)
class Output:
    """How a generation is shown."""

    as_json: bool
    with_stats: bool


def generate(
    connection: Connection,
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")] = "-",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name, as `draftpool models` lists it; may be left out for one.")
    ] = None,
    max_new_tokens: Annotated[
        int, _length("--max-new-tokens", "-n", min=1, help="End after so many tokens at the latest.")
    ] = 256,
    min_new_tokens: Annotated[int | None, _length(min=0, help="Do not end before so many.")] = None,
    stop: Annotated[list[str] | None, _length(metavar="TEXT", help="End before this text; may be repeated.")] = None,
    stop_token_id: Annotated[
        list[int] | None, _length(metavar="ID", help="End with this token; may be repeated.")
    ] = None,
    ignore_eos: Annotated[
        bool, _length("--ignore-eos", help="Go on where the model ends its text; for measurements.")
    ] = False,
    temperature: Annotated[
        float | None, _sampling(min=0, help="0 always takes the most probable token.", show_default="1")
    ] = None,
    top_p: Annotated[
        float | None, _sampling(help="Choose among the most probable tokens that make up this share.")
    ] = None,
    top_k: Annotated[int | None, _sampling(min=0, help="Choose among so many of the most probable tokens.")] = None,
    min_p: Annotated[
        float | None, _sampling(help="Leave out tokens less probable than this share of the most probable one.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, _sampling(metavar="FACTOR", help="Above 1, tokens of prompt and answer become less probable.")
    ] = None,
    presence_penalty: Annotated[
        float | None, _sampling(metavar="AMOUNT", help="Taken off the logits of tokens that the answer holds.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, _sampling(metavar="AMOUNT", help="The same, once for each time that it holds them.")
    ] = None,
    seed: Annotated[
        int | None,
        _sampling(min=0, metavar="N", help="The same seed gives the same text.", show_default="random"),
    ] = None,
    json_schema: Annotated[
        Path | None, _form(exists=True, dir_okay=False, help="Answer in JSON of the schema in this file.")
    ] = None,
    regex: Annotated[str | None, _form(help="Answer with a text that all of this expression matches.")] = None,
    no_draft: Annotated[bool, _drafts("--no-draft", help="Decode without drafting.")] = False,
    shape: Annotated[
        str | None,
        _drafts(
            help="Draft this tree every round: children at each depth, 3,2,2,1,1, or nodes and depth, best 16x6.",
            show_default="learned",
        ),
    ] = None,
    acceptance: Annotated[
        AcceptanceRule | None, _drafts(help="How drafted tokens are accepted.", show_default="coupled")
    ] = None,
    priority: Annotated[
        Literal["interactive", "standard", "batch"],
        typer.Option(metavar="CLASS", help="While it waits for its turn: interactive, standard or batch."),
    ] = "standard",
    stats: Annotated[bool, _output("--stats", help="Say where the time went.")] = False,
    json: Annotated[bool, _output("--json", help="One JSON object a line for every event.")] = False,
    logprobs: Annotated[
        int | None,
        _output(min=0, max=20, help="With --json: each token's log-probability, and those of so many others."),
    ] = None,
) -> None:
    """Continue a prompt. Drafting changes the speed, never the text (with rejection, never the text's distribution)."""
    if logprobs is not None and not json:
        raise typer.BadParameter("--logprobs needs --json to be shown")
    options = GenerateOptions(
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        stop=stop,
        stop_token_ids=stop_token_id,
        ignore_eos=ignore_eos,
        json_schema=None if json_schema is None else _read_schema(json_schema),
        regex=regex,
        want_logprobs=logprobs is not None,
        num_top_logprobs=logprobs,
        drafting=_drafting(no_draft, shape),
        acceptance=acceptance,
        want_rounds=json and stats,
        priority=priority,
    )
    asyncio.run(_generate(connection, model, _read_prompt(prompt), options, Output(json, stats)))


def _drafting(no_draft: bool, shape: str | None) -> TreePolicy | None:
    if no_draft and shape is not None:
        raise typer.BadParameter("--no-draft and --shape exclude each other")
    if no_draft:
        return NO_DRAFT
    return None if shape is None else shape_option(shape)


def _read_prompt(prompt: str) -> str:
    if prompt != "-":
        return prompt
    if sys.stdin.isatty():
        raise typer.BadParameter("give a prompt, or pipe one in")
    return sys.stdin.read()


def _read_schema(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not text in UTF-8: {error.reason}", param_hint="--json-schema") from None


async def _generate(
    connection: Connection, model: str | None, prompt: str, options: GenerateOptions, output: Output
) -> None:
    async with connection.client() as client:
        model = model or await _only_model(client)
        messages = message_console()
        try:
            completion = await show_generation(_view(output), client.generate(model, prompt, **options))
        except asyncio.CancelledError:
            messages.print("\ncancelled", style="dim")
            raise
        if output.with_stats or (messages.is_terminal and not output.as_json):
            messages.print(summary(completion), soft_wrap=True)
        if output.with_stats:
            messages.print(stats_table(completion.finish.usage))


def _view(output: Output) -> EventView:
    if output.as_json:
        return JsonView(sys.stdout)
    return ColourView(output_console(), message_console()) if sys.stdout.isatty() else PlainView(sys.stdout)


async def _only_model(client: Client) -> str:
    """The one model that is served.

    Raises:
        BadParameter: there are several, or none.
    """
    names = [model.name for model in await client.list_models()]
    if len(names) == 1:
        return names[0]
    if not names:
        raise BadParameter(f"{client.address} serves no model yet; its verifiers may still be loading")
    raise typer.BadParameter(f"choose one of {', '.join(names)}", param_hint="--model")
