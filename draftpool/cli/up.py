"""`draftpool up`: everything on this machine, until it is interrupted."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from draftpool.cli.board import ServiceBoard
from draftpool.cli.connection import DEFAULT_ADDRESS
from draftpool.cli.consoles import message_console, output_console
from draftpool.cli.interrupt import until_interrupted
from draftpool.cli.plan import EMBEDDED_DRAFTER, EMBEDDED_TARGETS, REDIS_URL_VARIABLE, DType, StackPlan
from draftpool.cli.stack import Stack
from draftpool.errors import BadParameter
from orchestrator.sharing.address import parse_redis_url

EXAMPLE_PROMPT = '"Question: How many legs do 3 cats have?"'

_models = partial(typer.Option, rich_help_panel="Models")
_processes = partial(typer.Option, rich_help_panel="Processes")
_memory_option = partial(typer.Option, rich_help_panel="What is learned")


def _checked_redis_url(context: typer.Context, url: str | None) -> str | None:
    """The URL where there is one. Command lines are for everybody to see, so a password must have come another way."""
    if not url:
        return None
    try:
        address = parse_redis_url(url)
    except BadParameter as error:
        raise typer.BadParameter(error.message) from None
    source = context.get_parameter_source("redis")
    if address.has_secrets and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter(
            "everybody on this machine can read a password on a command line; put the URL into the environment, as "
            f"{REDIS_URL_VARIABLE}"
        )
    return url


def up(
    target: Annotated[
        list[str] | None,
        _models(
            *("--target", "-t"),
            metavar="MODEL",
            help="Model to serve: embedded name, folder or hub id; may be repeated.",
            show_default=", ".join(EMBEDDED_TARGETS),
        ),
    ] = None,
    drafter: Annotated[
        str, _models("--drafter", "-d", metavar="MODEL", help="Model that drafts for all targets, of the same kinds.")
    ] = EMBEDDED_DRAFTER,
    no_drafter: Annotated[bool, _models("--no-drafter", help="Decode without drafting.")] = False,
    dtype: Annotated[DType | None, _models(help="What the targets compute in.", show_default="auto")] = None,
    num_drafters: Annotated[int, _processes(min=1, metavar="N", help="Processes that draft.")] = 1,
    num_verifiers: Annotated[int, _processes(min=1, metavar="N", help="Processes for each target.")] = 1,
    drafter_threads: Annotated[
        int | None,
        _processes(min=1, metavar="N", help="CPU threads of each process that drafts.", show_default="by cores"),
    ] = None,
    verifier_threads: Annotated[
        int | None,
        _processes(min=1, metavar="N", help="CPU threads of each target's process.", show_default="by cores"),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the orchestrator answers, host:port; port 0 takes a free one.")
    ] = DEFAULT_ADDRESS,
    redis: Annotated[
        str | None,
        _memory_option(
            metavar="URL",
            help=f"Redis that keeps what is learned about trees; with a password it comes from {REDIS_URL_VARIABLE}.",
            show_default="one of its own",
            envvar=REDIS_URL_VARIABLE,
            show_envvar=False,
            callback=_checked_redis_url,
        ),
    ] = None,
    no_redis: Annotated[bool, _memory_option("--no-redis", help="Keep what is learned in memory alone.")] = False,
    drain_grace_s: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long running requests may go on when it stops.")
    ] = 5.0,
    metrics: Annotated[bool, typer.Option("--metrics", help="Serve Prometheus metrics of every service.")] = False,
    log_dir: Annotated[Path | None, typer.Option(help="Folder to keep the services' logs in.")] = None,
) -> None:
    """Start a drafter, verifiers and the orchestrator on this machine; Ctrl-C stops them all."""
    try:
        plan = StackPlan(
            targets=tuple(target or EMBEDDED_TARGETS),
            drafter=None if no_drafter else drafter,
            num_drafters=num_drafters,
            num_verifiers=num_verifiers,
            listen=listen,
            dtype=dtype,
            drafter_threads=drafter_threads,
            verifier_threads=verifier_threads,
            drain_grace_s=drain_grace_s,
            has_metrics=metrics,
            redis_url=None if no_redis else redis,
            has_redis=not no_redis,
        )
    except BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--target") from None
    asyncio.run(_up(plan, log_dir))


async def _up(plan: StackPlan, log_dir: Path | None) -> None:
    board = ServiceBoard(message_console())
    stack = Stack(plan, log_dir=log_dir, on_event=board)
    await until_interrupted(_run(stack, board), on_first_signal=board.say_stopping, on_second_signal=stack.kill)


async def _run(stack: Stack, board: ServiceBoard) -> None:
    try:
        with board.live():
            await stack.start()
        output_console().print(ready_text(stack), soft_wrap=True)
        await stack.supervise()
    finally:
        await stack.stop()


def ready_text(stack: Stack) -> Text:
    """Where it answers, and what to type next."""
    address = stack.orchestrator
    at = "" if address == DEFAULT_ADDRESS else f" --address {address}"
    model = next(iter(stack.verifiers))
    return Text.assemble(
        ("\nReady", "bold green"),
        f": draftpool answers at {address} and serves {', '.join(stack.verifiers)}.\n",
        ("  draftpool generate", "bold"),
        f"{at} --model {model} --temperature 0 {EXAMPLE_PROMPT}\n",
        ("  draftpool models", "bold"),
        f"{at}\n",
        *(f"  metrics of {name}: http://{address}/metrics\n" for name, address in stack.metrics.items()),
        (f"{_memory(stack)}Logs are in {stack.folder}. Ctrl-C stops everything.", "dim"),
    )


def _memory(stack: Stack) -> str:
    """Where it is kept what pays, unless the board has said so, or it was asked for."""
    if stack.plan.redis_url is not None:
        return f"What is learned is shared through {parse_redis_url(stack.plan.redis_url)}.\n"
    if stack.plan.has_redis and "redis" not in stack.services:
        return "What is learned is kept in the orchestrator's memory, for there is no redis-server here.\n"
    return ""
