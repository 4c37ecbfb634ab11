"""No command takes a secret as an option: everybody on the machine can read command lines."""

from collections.abc import Iterator
from typing import Any

import typer.main
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from draftpool.cli.app import build_app
from draftpool.cli.options import with_options_of


class Settings(BaseSettings):
    plain: str = ""
    secret: SecretStr | None = None


def options(command: Any, path: str = "") -> Iterator[str]:
    for parameter in command.params:
        yield from (f"{path} {name}" for name in parameter.opts)
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from options(subcommand, f"{path} {name}")


def test_secret_settings_are_no_options() -> None:
    app = typer.Typer()
    app.command()(with_options_of(lambda _: None, [Settings]))
    names = list(options(typer.main.get_command(app)))
    assert " --plain" in names
    assert " --secret" not in names


def test_whatever_is_called_a_key_or_a_password_is_a_file() -> None:
    names = list(options(typer.main.get_command(build_app())))
    assert " serve drafter --tls-key-file" in names
    suspicious = [name for name in names if any(word in name for word in ("-key", "password", "secret", "token-file"))]
    assert [name for name in suspicious if not name.endswith("-file")] == []
    assert not any(name.endswith("redis-url") for name in names)
