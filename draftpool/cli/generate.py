"""`draftpool generate`: one generation, streamed."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Output:
    """How a generation is shown."""

    as_json: bool
    with_stats: bool


def generate(
    connection: Connection,
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")] = "-",
    model: Annotated[str | None, typer.Option("--model", "-m", help="Needed where several are served.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Stop after so many.")] = 256,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy.", show_default="1")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the most probable share only.")] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="Sample from the k most probable tokens only.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Leave out tokens below this share of the best one.")] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: tokens that prompt or answer hold become less probable.")
    ] = None,
    presence_penalty: Annotated[float | None, typer.Option(help="Taken off tokens that the answer holds.")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="The same, once for each time.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="The same seed gives the same text.", show_default="random")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    stop_token_id: Annotated[list[int] | None, typer.Option(help="End with this token; may be repeated.")] = None,
    min_new_tokens: Annotated[int | None, typer.Option(min=0, help="Do not end before.")] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on where the model ends its text; for measurements.")
    ] = False,
    json_schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Answer in JSON of the schema in this file.")
    ] = None,
    regex: Annotated[str | None, typer.Option(help="Answer with a text that this expression matches.")] = None,
    no_draft: Annotated[bool, typer.Option("--no-draft", help="Decode without drafting.")] = False,
    shape: Annotated[
        str | None,
        typer.Option(help="Draft this tree every round: 3,2,2,1,1, or best 16x6.", show_default="learned"),
    ] = None,
    priority: Annotated[
        Literal["interactive", "standard", "batch"], typer.Option(help="How urgent it is while it waits for its turn.")
    ] = "standard",
    acceptance: Annotated[
        AcceptanceRule | None, typer.Option(help="How drafted tokens are accepted.", show_default="coupled")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say where the time went.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line for every event.")] = False,
    logprobs: Annotated[
        int | None, typer.Option(min=0, max=20, help="With --json: each token's log-probability, and so many others.")
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
