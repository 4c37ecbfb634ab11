"""Writes the services' own settings into the chart's `values.schema.json`.

`settings:` of a pool takes what `draftpool serve ...` takes, and a misspelt or impossible one is refused by Helm. The
settings classes are where these are written down; run this after changing one (`make chart`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

from draftpool.cli.serve import ROLES

SCHEMA = Path(__file__).parent / "draftpool" / "values.schema.json"

SET_BY_THE_CHART = {
    "model",
    "name",
    "verifiers",
    "drafters",
    "redis_url",
    "api_keys_file",
    "scaler_listen",
    "peers",
    "peer_server_name",
    "cold_targets",
}
"""Have values of their own, or come from Secrets."""

_MAX_COLUMNS = 120

_KEPT_KEYWORDS = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description")


def settings_definitions() -> dict[str, Any]:
    """Definitions of the schema by name: for each service an object of its settings."""
    return {f"{role.name}Settings": _definition(role.settings_class) for role in ROLES}


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with what the services take now."""
    return {**schema, "definitions": {**schema["definitions"], **settings_definitions()}}


def _definition(settings_class: type[BaseSettings]) -> dict[str, Any]:
    fields = settings_class.model_json_schema()["properties"]
    properties = {name: _property(field) for name, field in fields.items() if name not in SET_BY_THE_CHART}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(field: dict[str, Any]) -> dict[str, Any]:
    """What Helm can check of a setting; it travels as text, so what is no plain value is a string."""
    kind = {**field, **next((option for option in field.get("anyOf", ()) if option.get("type") != "null"), {})}
    if kind.get("type") not in ("integer", "number", "boolean", "string"):
        kind["type"] = "string"
    return {keyword: kind[keyword] for keyword in _KEPT_KEYWORDS if keyword in kind}


def as_text(value: Any, indent: int = 0) -> str:
    """JSON in which whatever fits on a line stands on one."""
    on_one_line = json.dumps(value)
    if indent + len(on_one_line) < _MAX_COLUMNS or not isinstance(value, dict | list) or not value:
        return on_one_line
    pad = " " * (indent + 2)
    if isinstance(value, list):
        return "[\n" + ",\n".join(pad + as_text(item, indent + 2) for item in value) + "\n" + " " * indent + "]"
    lines = (f"{pad}{json.dumps(key)}: {as_text(item, indent + 2)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


if __name__ == "__main__":
    SCHEMA.write_text(as_text(with_settings(json.loads(SCHEMA.read_text()))) + "\n")
