"""Settings as options of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typer.testing import CliRunner

from draftpool.cli.options import settings_from, with_options_of


class Example(BaseSettings):
    """Every kind of field that services have."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", frozen=True, extra="forbid")

    model: str = Field(description="Which model.")
    grace_s: float = Field(30.0, ge=0, description="How long [in seconds].")
    folder: Path | None = Field(None, description="Where to.")
    kind: Literal["fast", "exact"] = Field("fast", description="How.")
    verifiers: Annotated[tuple[str, ...], NoDecode] = Field((), description="Addresses.")
    is_quiet: bool = Field(False, description="Say nothing.")


def parse(*arguments: str) -> dict[str, Any]:
    given: list[dict[str, Any]] = []
    app = typer.Typer()
    app.command()(with_options_of(given.append, [Example]))
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return given[0]


def test_only_what_was_given_is_handed_on() -> None:
    assert parse() == {}
    assert parse("--grace-s", "0", "--is-quiet") == {"grace_s": 0.0, "is_quiet": True}


def test_a_list_is_one_option_an_item() -> None:
    assert parse("--verifier", "h:1", "--verifier", "h:2") == {"verifiers": ["h:1", "h:2"]}


def test_the_help_is_the_settings_own() -> None:
    app = typer.Typer()
    app.command()(with_options_of(lambda _: None, [Example]))
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "Which model." in text
    assert "[in seconds]" in text
    assert "30.0" in text


def test_an_option_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_MODEL", "from-environment")
    monkeypatch.setenv("EXAMPLE_GRACE_S", "7")
    settings = settings_from({"model": "given", "of_another_class": 1}, Example)
    assert (settings.model, settings.grace_s, settings.kind) == ("given", 7, "fast")


def test_a_refused_value_is_named_by_option_and_variable() -> None:
    with pytest.raises(typer.BadParameter, match=r"--grace-s \(or EXAMPLE_GRACE_S\): .*got -1"):
        settings_from({"model": "m", "grace_s": -1}, Example)


def test_a_missing_value_is_said_to_be_required() -> None:
    with pytest.raises(typer.BadParameter, match=r"--model \(or EXAMPLE_MODEL\): it is required"):
        settings_from({}, Example)
