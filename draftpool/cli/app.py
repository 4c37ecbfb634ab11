"""The `draftpool` command."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from draftpool.cli.bandit import bandit
from draftpool.cli.demo import demo
from draftpool.cli.failures import report
from draftpool.cli.generate import generate
from draftpool.cli.models import models
from draftpool.cli.serve import serve_app
from draftpool.cli.up import up
from draftpool.errors import DraftpoolError


def build_app() -> typer.Typer:
    """The command with all its subcommands."""
    app = typer.Typer(
        name="draftpool",
        help="Speculative decoding as a service: one pool of Mamba drafters, many target models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (up, generate, models, bandit, demo):
        app.command()(command)
    app.add_typer(serve_app(), name="serve")
    return app


def main() -> None:
    """Exit codes: 0 done, 1 it failed and standard error says why, 2 wrong usage, 130 interrupted."""
    try:
        build_app()()
    except DraftpoolError as error:
        report(error, Console(stderr=True, highlight=False))
        sys.exit(1)
