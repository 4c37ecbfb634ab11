"""The metrics that the services' code defines."""

from __future__ import annotations

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SERVICES = ("draftpool", "drafter_service", "verifier_service", "orchestrator")
_DEFINITION = re.compile(r'\b(Counter|Gauge|Histogram)\(\s*"(draftpool_\w+)"')


@functools.cache
def _definitions() -> frozenset[tuple[str, str]]:
    """Kind and name of each."""
    paths = (path for service in _SERVICES for path in (ROOT / service).rglob("*.py"))
    return frozenset((kind, name) for path in paths for kind, name in _DEFINITION.findall(path.read_text()))


def gauges() -> set[str]:
    return {name for kind, name in _definitions() if kind == "Gauge"}


def series() -> set[str]:
    """Names as Prometheus stores them."""
    names = set()
    for kind, name in _definitions():
        names |= {f"{name}{part}" for part in ("_bucket", "_sum", "_count")} if kind == "Histogram" else {name}
    return names
