"""Settings as command-line options: the names, defaults and explanations are written once, in the settings."""

from __future__ import annotations

import functools
import inspect
import operator
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import typer
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

Settings = TypeVar("Settings", bound=BaseSettings)


def with_options_of(
    command: Callable[[dict[str, Any]], None], settings_classes: Iterable[type[BaseSettings]]
) -> Callable[..., None]:
    """A typer command with one option for each field, which hands the options that were given to `command`."""

    def run(**options: Any) -> None:
        command({name: value for name, value in options.items() if value is not None and value != []})

    parameters = [each for settings_class in settings_classes for each in option_parameters(settings_class)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def option_parameters(settings_class: type[BaseSettings], *, panel: str | None = None) -> list[inspect.Parameter]:
    """One option for each field, absent by default, as the parameters of a typer command.

    Secrets are no options: everybody on the machine can read a command line. They come from the environment alone.

    Args:
        panel: the heading under which the help shows them, each with its variable.
    """
    prefix = settings_class.model_config.get("env_prefix", "")
    return [
        option_parameter(name, field, {"rich_help_panel": panel, "envvar": f"{prefix}{name}".upper()} if panel else {})
        for name, field in settings_class.model_fields.items()
        if not _is_secret(field)
    ]


def option_parameter(name: str, field: FieldInfo, details: Mapping[str, Any]) -> inspect.Parameter:
    """An option for a field; `details` is what typer shall know besides."""
    option = typer.Option(_option_name(name, field), help=_help(field), show_default=False, **details)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_option_type(field), option]
    )


def settings_from(options: Mapping[str, Any], settings_class: type[Settings]) -> Settings:
    """The settings that the given options, the environment and the defaults make, in this order.

    Raises:
        typer.BadParameter: a value that the settings refuse.
    """
    mine = {name: value for name, value in options.items() if name in settings_class.model_fields}
    try:
        return settings_class(**mine)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(_sentence(details, settings_class) for details in error.errors())) from None


def _sentence(details: Any, settings_class: type[BaseSettings]) -> str:
    name = str(details["loc"][0]) if details["loc"] else "settings"
    field = settings_class.model_fields.get(name)
    variable = f"{settings_class.model_config.get('env_prefix', '')}{name}".upper()
    if field is not None and _is_secret(field):
        return f"{variable}: {details['msg']}"
    option = name if field is None else _option_name(name, field)
    problem = "it is required" if details["type"] == "missing" else f"{details['msg']}, got {details['input']!r}"
    return f"{option} (or {variable}): {problem}"


def _option_name(name: str, field: FieldInfo) -> str:
    """`drain_grace_s` is --drain-grace-s; a list is given as one option an item: `drafters`, --drafter."""
    return "--" + (name.removesuffix("s") if _is_list(field) else name).replace("_", "-")


def _option_type(field: FieldInfo) -> Any:
    if _is_list(field):
        return list[str] | None
    return _without_none(field.annotation) | None


def _is_list(field: FieldInfo) -> bool:
    return get_origin(_without_none(field.annotation)) in (tuple, list)


def _is_secret(field: FieldInfo) -> bool:
    return _without_none(field.annotation) is SecretStr


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return functools.reduce(operator.or_, kinds)
    return annotation


def _help(field: FieldInfo) -> str:
    """The field's description and its default; the option's own default is to be absent."""
    has_default = field.default not in (None, (), False, PydanticUndefined)
    text = f"{field.description or ''} [default: {field.default}]" if has_default else field.description or ""
    return text.replace("[", "\\[")
