"""The `draftpool` command. Its parts are imported when they are wanted: a probe should not pay for all of them."""

from __future__ import annotations

import os
import sys

import typer

from draftpool.cli.health import health

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
    for command in (up, with_connection(generate), with_connection(models), with_connection(bandit), demo, health):
        app.command()(command)
    app.add_typer(serve_app(), name="serve")
    app.add_typer(keys_app(), name="keys")
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
    return typer.Typer(
        name="draftpool",
        help="Speculative decoding as a service: one pool of Mamba drafters, many target models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def _probe_app() -> typer.Typer:
    """`draftpool health` alone."""
    app = _empty_app()
    app.callback()(_nothing)  # without it the only subcommand would be the command itself
    app.command()(health)
    return app


def _nothing() -> None:
    """What comes before the subcommand."""
