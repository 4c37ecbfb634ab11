"""`draftpool keys`: API keys for clients."""

from __future__ import annotations

from typing import Annotated

import typer

from draftpool.cli.consoles import message_console
from orchestrator.api_keys import KEY_NAME, hash_of, new_key


def keys_app() -> typer.Typer:
    """The `keys` command with its subcommands."""
    app = typer.Typer(no_args_is_help=True, help="Make API keys for clients.")
    app.command("new")(new)
    app.callback()(_nothing)  # without it the only subcommand would be the command itself
    return app


def _nothing() -> None:
    """What comes before the subcommand."""


def new(
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Who gets it; what logs and metrics say instead of the key.")
    ],
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Calls; a minute's worth may come at once.")
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Of prompts and answers together.")
    ] = None,
    max_concurrent_requests: Annotated[int | None, typer.Option(min=1, metavar="N", help="At the same time.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of one request.")] = None,
) -> None:
    """Make a key. It is shown once, on standard error; standard output has what belongs into the file of keys:
    draftpool keys new --name alice >> keys.toml. Without limits it may ask as much as it likes."""
    if not KEY_NAME.fullmatch(name):
        raise typer.BadParameter("letters, digits, dots, dashes and underscores, at most 64", param_hint="--name")
    key = new_key()
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_concurrent_requests": max_concurrent_requests,
        "max_new_tokens": max_new_tokens,
    }
    lines = [f'["{name}"]', f'sha256 = "{hash_of(key)}"']
    lines += [f"{limit} = {value:g}" for limit, value in limits.items() if value is not None]
    print("\n".join(lines))
    message_console().print(f"\n{key}\nGive it to {name}; it cannot be shown again.", soft_wrap=True)
