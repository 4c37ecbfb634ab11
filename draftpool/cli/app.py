"""The `draftpool` command. Its parts are imported when they are wanted: a probe should not pay for all of them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from draftpool.cli.health import health

_HERE, _ASK, _OPERATE = "Everything on this machine", "Ask a draftpool", "Run the services"
"""Under which headings the help shows the commands."""

_CLIENTS = ("generate", "models", "bandit", "health")


def build_app() -> typer.Typer:
    """The command with all its subcommands."""
    from draftpool.cli.bandit import bandit
    from draftpool.cli.connection import with_connection
    from draftpool.cli.demo import demo
    from draftpool.cli.generate import generate
    from draftpool.cli.keys import keys_app
    from draftpool.cli.models import models
    from draftpool.cli.serve import serve_app
    from draftpool.cli.up import up

    app = _empty_app()
    for command in (demo, up):
        app.command(rich_help_panel=_HERE)(command)
    for command in (with_connection(generate), with_connection(models), with_connection(bandit)):
        app.command(rich_help_panel=_ASK)(command)
    app.add_typer(serve_app(), name="serve", rich_help_panel=_OPERATE)
    app.command(rich_help_panel=_OPERATE)(health)
    app.add_typer(keys_app(), name="keys", rich_help_panel=_OPERATE)
    return app


def main() -> None:
    """Exit codes: 0 done, 1 it failed and standard error says why, 2 wrong usage, 130 interrupted."""
    if sys.argv[1:2] and sys.argv[1] in _CLIENTS:
        # Read when gRPC is imported. What it would log, our errors say; what services log of their callers is of use.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from draftpool.errors import DraftpoolError

    try:
        (_probe_app() if sys.argv[1:2] == ["health"] else build_app())()
    except DraftpoolError as error:
        from rich.console import Console

        from draftpool.cli.failures import report

        report(error, Console(stderr=True, highlight=False))
        sys.exit(1)


def _empty_app() -> typer.Typer:
    app = typer.Typer(
        name="draftpool",
        help="Speculative decoding as a service: one pool of Mamba drafters, many target models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_before)
    return app


def _probe_app() -> typer.Typer:
    """`draftpool health` alone."""
    app = _empty_app()
    app.command()(health)
    return app


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"draftpool {version('draftpool')}")
        raise typer.Exit


def _before(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Before the subcommand; that there is such a thing keeps a lone one from being the command itself."""
