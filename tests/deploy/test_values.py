"""values.yaml and its schema know the same keys, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.deploy.chart import CHART

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

SCHEMA: Schema = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())

NOT_SHOWN = {
    "global",  # Helm's own, for charts within charts
    "verifier.model.id",  # each target has its own
    "verifier.autoscaling.thresholds.requests",  # stands there as a comment, for it has no default
}
KUBERNETES_OWN = ("affinity", "resources")
"""What is handed on as it is."""


def _resolved(schema: Schema) -> Schema:
    """What a reference refers to."""
    while "$ref" in schema:
        found: Any = SCHEMA
        for word in schema["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        schema = found
    return schema


def _keys(schema: Schema, path: Path = ()) -> Iterator[str]:
    """Every key below a schema, as a.b.c; settings are those of the services."""
    for name, below in _resolved(schema).get("properties", {}).items():
        yield ".".join(map(str, (*path, name)))
        if name not in ("settings", *KUBERNETES_OWN):
            yield from _keys(below, (*path, name))


def _shown(values: Mapping[str, Any], path: Path = ()) -> Iterator[str]:
    for name, below in values.items():
        yield ".".join(map(str, (*path, name)))
        if isinstance(below, dict) and name not in KUBERNETES_OWN:
            yield from _shown(below, (*path, name))


def test_every_key_that_there_is_stands_in_the_values() -> None:
    assert set(_keys(SCHEMA)) - set(_shown(VALUES)) == NOT_SHOWN


def _open_objects(schema: Any, path: Path = ()) -> Iterator[str]:
    """Where the schema names keys and takes others too."""
    if isinstance(schema, dict):
        if (
            schema.get("type") == "object"
            and "properties" in schema
            and schema.get("additionalProperties") is not False
        ):
            yield ".".join(map(str, path))
        for name, below in schema.items():
            yield from _open_objects(below, (*path, name))
    elif isinstance(schema, list):
        for number, below in enumerate(schema):
            yield from _open_objects(below, (*path, number))


def test_a_misspelt_key_is_refused_wherever_it_stands() -> None:
    spread = "definitions.pool.properties.topologySpreadConstraints.items"  # Kubernetes' own, which grows
    assert list(_open_objects(SCHEMA)) == [spread]
