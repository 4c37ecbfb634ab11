"""`draftpool serve drafter|verifier|orchestrator`: one service in this process."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic_settings import BaseSettings

from drafter_service.settings import DrafterSettings
from draftpool.cli.options import settings_from, with_options_of
from draftpool.cli.parent import end_with_parent
from draftpool.embedded import EMBEDDED_MODELS, embedded_path
from draftpool.errors import DraftpoolError, ModelNotServable
from draftpool.logs import configure_logging
from draftpool.settings import ServerSettings, TlsSettings
from orchestrator.settings import OrchestratorSettings
from verifier_service.settings import VerifierSettings

_OWN_PACKAGES = {"draftpool", "drafter_service", "orchestrator", "verifier_service"}


class NotInstalled(DraftpoolError):
    """The service needs a package that only its extra installs."""

    reason = "NOT_INSTALLED"


@dataclass(frozen=True)
class Role:
    """A service that this command can run.

    Attributes:
        name: the subcommand, and the extra that installs what it needs.
        server_module: where its `serve` is; imported only when it is wanted, for it may import torch.
        settings_class: its own settings, beside those of every server.
        summary: the subcommand's help.
    """

    name: str
    server_module: str
    settings_class: type[BaseSettings]
    summary: str


ROLES = (
    Role("drafter", "drafter_service.server", DrafterSettings, "Propose token trees with a Mamba model."),
    Role("verifier", "verifier_service.server", VerifierSettings, "Score token trees with a target model."),
    Role("orchestrator", "orchestrator.server", OrchestratorSettings, "Serve the public API."),
)


def serve_app() -> typer.Typer:
    """The `serve` command with its subcommands."""
    app = typer.Typer(no_args_is_help=True, help="Run one service in this process.")
    for role in ROLES:
        prefix = role.settings_class.model_config.get("env_prefix", "")
        app.command(
            role.name,
            help=role.summary,
            epilog=f"Options can also come from the environment, as {prefix}MAX_... or DRAFTPOOL_SERVER_LISTEN.",
        )(with_options_of(_command(role), [role.settings_class, ServerSettings, TlsSettings]))
    return app


def _end_on_sigterm() -> None:
    """Until the server is up and has its own way to end. A container's first process ignores the unhandled."""
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def _command(role: Role) -> Callable[[dict[str, Any]], None]:
    def command(options: dict[str, Any]) -> None:
        server_settings = settings_from(options, ServerSettings)
        tls = settings_from(options, TlsSettings)
        settings = _with_model_folder(settings_from(options, role.settings_class))
        if server_settings.exit_with_parent:
            end_with_parent()
        configure_logging(role.name)
        _end_on_sigterm()
        asyncio.run(_server(role).serve(settings, server_settings, tls))

    return command


def _with_model_folder(settings: BaseSettings) -> BaseSettings:
    """The name of an embedded model means the folder it is in; what can only be a folder must exist.

    Raises:
        ModelNotServable: it does not; told here because the hub would be asked for it, with an answer about hub ids.
    """
    model = getattr(settings, "model", "")
    if model in EMBEDDED_MODELS:
        return settings.model_copy(update={"model": str(embedded_path(model))})
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise ModelNotServable(f"there is no folder {model!r}; embedded models are {', '.join(EMBEDDED_MODELS)}")
    return settings


def _server(role: Role) -> Any:
    """The module that serves the role.

    Raises:
        NotInstalled: a package of its extra is missing.
    """
    try:
        return importlib.import_module(role.server_module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OWN_PACKAGES:
            raise
        raise NotInstalled(
            f"the {role.name} needs {package}, which is not installed; pip install 'draftpool[{role.name}]'"
        ) from None
