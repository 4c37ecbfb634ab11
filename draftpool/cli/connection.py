"""How the commands that ask an orchestrator reach it: options that they share, and the client that these make."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from draftpool.cli.options import option_parameters, settings_from
from draftpool.client import Client
from draftpool.settings import ClientSettings, TlsSettings

DEFAULT_ADDRESS = "127.0.0.1:50050"
"""Where `draftpool up` listens and every other command looks."""

_PANEL = "Connection"


@dataclass(frozen=True)
class Connection:
    """What the options and the environment say of the orchestrator.

    Attributes:
        address: host:port.
        tls: whom to believe, and what to show.
        api_key_file: None: the environment has the key, or there is none.
    """

    address: str
    tls: TlsSettings
    api_key_file: Path | None

    def client(self) -> Client:
        """Raises BadParameter where the files cannot be used, or the key would go out in plain text."""
        return Client(self.address, api_key=self._api_key(), tls=self.tls)

    def _api_key(self) -> str | None:
        if self.api_key_file is None:
            return settings_from({}, ClientSettings).key()
        return settings_from({"api_key": None, "api_key_file": self.api_key_file}, ClientSettings).key()


def _checked_address(address: str) -> str:
    if ":" not in address:  # gRPC would take port 443
        raise typer.BadParameter(f"an address is host:port, got {address!r}")
    return address


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options for its parameter `connection`, after those it has."""
    own = inspect.signature(command, eval_str=True)
    signature = own.replace(
        parameters=[
            *(parameter for name, parameter in own.parameters.items() if name != "connection"),
            *_parameters(),
        ]
    )

    def run(**options: Any) -> None:
        own_options = {name: options[name] for name in own.parameters if name != "connection"}
        command(**own_options, connection=_connection(options))

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _connection(options: dict[str, Any]) -> Connection:
    given = {name: value for name, value in options.items() if value is not None}
    return Connection(options["address"], settings_from(given, TlsSettings), options["api_key_file"])


def _parameters() -> list[inspect.Parameter]:
    address = Annotated[
        str,
        typer.Option(
            *("--address", "-a"),
            envvar="DRAFTPOOL_ADDRESS",
            help="Where the orchestrator answers, host:port.",
            callback=_checked_address,
            rich_help_panel=_PANEL,
        ),
    ]
    key_file = Annotated[
        Path | None,
        typer.Option(
            # No `envvar`: what is said here beats DRAFTPOOL_API_KEY, which beats DRAFTPOOL_API_KEY_FILE.
            help="File with the API key. \\[env vars: DRAFTPOOL_API_KEY with the key itself, DRAFTPOOL_API_KEY_FILE]",
            exists=True,
            dir_okay=False,
            rich_help_panel=_PANEL,
        ),
    ]
    return [
        inspect.Parameter("address", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_ADDRESS, annotation=address),
        inspect.Parameter("api_key_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=key_file),
        *option_parameters(TlsSettings, panel=_PANEL),
    ]
