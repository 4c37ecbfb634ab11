"""The chart as Helm renders it, and what the tests of it look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy" / "helm"
CHART = DEPLOY / "draftpool"
EXAMPLES = tuple(sorted(path.stem for path in (DEPLOY / "examples").glob("*.yaml")))

RELEASE = "demo"
NAMESPACE = "models"

Values = Mapping[str, Any]
Object = dict[str, Any]


def example(name: str) -> Values:
    """The values of an example; those of the chart itself under `defaults`."""
    return {} if name == "defaults" else yaml.safe_load((DEPLOY / "examples" / f"{name}.yaml").read_text())


def values_of(text: str) -> Values:
    return yaml.safe_load(text) or {}


def rendered_files(values: Values, release: str = RELEASE) -> dict[str, str]:
    """Helm's answer by template. The chart is loaded anew each time, for Helm changes it as it renders."""
    with helm_python.Chart.load(CHART) as chart:
        return chart.render(dict(values), name=release, namespace=NAMESPACE)


def render(values: Values, release: str = RELEASE) -> Manifests:
    files = rendered_files(values, release)
    documents = [
        document
        for path, text in files.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    return Manifests(tuple(documents))


@dataclass(frozen=True)
class Pod:
    """A pod that the chart starts, by itself or through a Deployment.

    Attributes:
        owner: the object that it is written in.
        labels: its own.
        spec: as Kubernetes calls it.
    """

    owner: Object
    labels: Mapping[str, str]
    spec: Object

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def name(self) -> str:
        return self.owner["metadata"]["name"]

    @property
    def containers(self) -> list[Object]:
        """All, those that run before the others too."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for c in self.containers for port in c.get("ports", ())}


@dataclass(frozen=True)
class Manifests:
    """All objects of a release."""

    objects: tuple[Object, ...]

    def of_kind(self, kind: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] == kind]

    def named(self, kind: str, name: str) -> Object:
        (found,) = (found for found in self.of_kind(kind) if found["metadata"]["name"] == name)
        return found

    @property
    def pods(self) -> list[Pod]:
        return list(self._pods())

    def pod(self, name: str) -> Pod:
        (found,) = (pod for pod in self.pods if pod.name == name)
        return found

    def _pods(self) -> Iterator[Pod]:
        for found in self.objects:
            if found["kind"] == "Deployment":
                template = found["spec"]["template"]
                yield Pod(found, template["metadata"]["labels"], template["spec"])
            elif found["kind"] == "Pod":
                yield Pod(found, found["metadata"]["labels"], found["spec"])


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector with `matchLabels` takes in these labels; an empty one takes in everything."""
    assert set(selector) <= {"matchLabels"}, "no template uses expressions"
    return selector.get("matchLabels", {}).items() <= labels.items()


def environment(container: Object) -> dict[str, str]:
    """Variables with a plain value."""
    return {variable["name"]: variable["value"] for variable in container.get("env", ()) if "value" in variable}
