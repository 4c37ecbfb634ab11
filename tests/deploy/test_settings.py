"""Every command, argument and variable of every container is one that the code understands.

Arguments are read by the programs' own parsers and variables by the services' own settings classes, so the chart
cannot drift away from the code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from huggingface_hub.cli.hf import app as hub_app
from pydantic_settings import BaseSettings
from torch.distributed.run import get_args_parser as torchrun_parser

from deploy.helm.write_settings_schema import SCHEMA, SET_BY_THE_CHART, as_text, settings_definitions, with_settings
from drafter_service.settings import DrafterSettings
from draftpool.cli.app import build_app
from draftpool.cli.options import settings_from
from draftpool.cli.serve import ROLES
from draftpool.embedded import EMBEDDED_MODELS
from draftpool.settings import ServerSettings
from orchestrator.settings import OrchestratorSettings
from tests.deploy.chart import CHART, Manifests, Object, Pod, environment, render, values_of
from verifier_service.settings import VerifierSettings

ROLE_BY_NAME = {role.name: role for role in ROLES}
OWN_COMPONENTS = set(ROLE_BY_NAME)


def _settings_classes(root: type[BaseSettings] = BaseSettings) -> Iterator[type[BaseSettings]]:
    for found in root.__subclasses__():
        if found.model_config.get("env_prefix", "").startswith("DRAFTPOOL_"):
            yield found
        yield from _settings_classes(found)


def _variables(settings_class: type[BaseSettings]) -> set[str]:
    prefix = settings_class.model_config.get("env_prefix", "")
    return {f"{prefix}{field}".upper() for field in settings_class.model_fields}


def _classes_of(component: str) -> set[type[BaseSettings]]:
    """A service's own settings, and those of no service in particular."""
    return set(_settings_classes()) - {role.settings_class for role in ROLES if role.name != component}


def _known_variables(component: str) -> set[str]:
    return set().union(*(_variables(found) for found in _classes_of(component)))


def _command(path: Sequence[str]) -> Any:
    """The click command of `draftpool ...`."""
    command = typer.main.get_command(build_app())
    for word in path:
        command = command.commands[word]  # type: ignore[attr-defined]
    return command


def _service_words(container: Object) -> list[str]:
    """What follows `draftpool`, also where torchrun starts it."""
    words = [*container["command"], *container.get("args", ())]
    if words[0] == "torchrun":
        parsed = torchrun_parser().parse_args(words[1:])
        assert parsed.module
        return [*parsed.training_script_args]
    assert words[0] == "draftpool"
    return words[1:]


def _settings(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> dict[type[BaseSettings], BaseSettings]:
    """What the service of a pod would start with: its arguments, its variables, its defaults."""
    container = pod.spec["containers"][0]
    serve, role_name, *arguments = _service_words(container)
    assert serve == "serve"
    context = _command(["serve", role_name]).make_context(role_name, arguments)
    options = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    for name in [name for name in os.environ if name.startswith("DRAFTPOOL_")]:
        monkeypatch.delenv(name)
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    return {settings_class: settings_from(options, settings_class) for settings_class in _classes_of(role_name)}


def _services(manifests: Manifests) -> list[Pod]:
    return [pod for pod in manifests.pods if pod.component in OWN_COMPONENTS]


def test_every_service_would_start_with_its_arguments_and_variables(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in _services(manifests):
        settings = _settings(pod, monkeypatch)
        server = settings[ServerSettings]
        assert isinstance(server, ServerSettings)
        assert server.listen == f"0.0.0.0:{pod.ports['grpc']}"
        assert server.metrics_listen == f"0.0.0.0:{pod.ports['metrics']}"


def test_every_variable_of_ours_is_a_setting(manifests: Manifests) -> None:
    """One that no class has would be ignored without a word."""
    for pod in manifests.pods:
        for container in pod.spec["containers"]:
            names = {variable["name"] for variable in container.get("env", ())}
            given = {name for name in names if name.startswith("DRAFTPOOL_")}
            assert given <= _known_variables(pod.component)


def test_no_variable_is_given_twice(manifests: Manifests) -> None:
    for pod in manifests.pods:
        for container in pod.containers:
            names = [variable["name"] for variable in container.get("env", ())]
            assert len(names) == len(set(names))


def test_the_command_is_that_of_the_images(manifests: Manifests) -> None:
    for pod in _services(manifests):
        assert _service_words(pod.spec["containers"][0])[:2] == ["serve", pod.component]


def test_the_orchestrator_is_given_one_address_a_pool(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    (orchestrator,) = (pod for pod in manifests.pods if pod.component == "orchestrator")
    settings = _settings(orchestrator, monkeypatch)[OrchestratorSettings]
    assert isinstance(settings, OrchestratorSettings)
    expected: dict[str, list[str]] = {"drafter": [], "verifier": []}
    for pod in _services(manifests):
        if pod.component != "orchestrator":
            expected[pod.component].append(f"kubernetes:///{pod.name}:{pod.ports['grpc']}")
    assert {"drafter": list(settings.drafters), "verifier": list(settings.verifiers)} == expected


def test_with_dns_the_orchestrator_is_given_names(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(values_of("orchestrator: {discovery: dns, scaler: {enabled: true}}"))
    settings = _settings(manifests.pod("demo-draftpool-orchestrator"), monkeypatch)[OrchestratorSettings]
    assert isinstance(settings, OrchestratorSettings)
    assert settings.drafters == ("dns:///demo-draftpool-drafter.models.svc:50051",)
    assert settings.verifiers[0] == "dns:///demo-draftpool-verifier-tiny-llama.models.svc:50052"
    assert settings.peers == ("dns:///demo-draftpool-peers.models.svc:50060",)


def test_a_target_is_called_as_its_entry_says(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(
        values_of("""
            targets:
              - {name: plain, model: {id: tiny-llama}}
              - {name: with-capitals, servedName: With-Capitals-1.5, model: {id: tiny-neox}}
        """)
    )
    names = [
        settings.name
        for pod in manifests.pods
        if pod.component == "verifier"
        and isinstance(settings := _settings(pod, monkeypatch)[VerifierSettings], VerifierSettings)
    ]
    assert names == ["plain", "With-Capitals-1.5"]


@pytest.mark.parametrize(
    ("values", "device", "device_map"),
    [
        ("{gpus: 0}", None, None),
        ("{gpus: 1}", "cuda", None),
        ("{gpus: 1, settings: {device: 'cuda:0'}}", "cuda:0", None),
        ("{gpus: 2, parallelism: layers}", None, "auto"),
        ("{gpus: 2, parallelism: layers, settings: {device_map: balanced}}", None, "balanced"),
        ("{gpus: 2, parallelism: tensor}", None, None),  # each process takes one
    ],
)
def test_gpus_decide_the_device(
    values: str, device: str | None, device_map: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render({"verifier": values_of(values)})
    pod = manifests.pod("demo-draftpool-verifier-tiny-llama")
    settings = _settings(pod, monkeypatch)[VerifierSettings]
    assert isinstance(settings, VerifierSettings)
    assert (settings.device, settings.device_map) == (device, device_map)
    names = [variable["name"] for variable in pod.containers[0]["env"]]
    assert len(names) == len(set(names))


def test_gpus_are_asked_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(values_of("{drafter: {gpus: 1}, verifier: {gpus: 2, gpuResource: amd.com/gpu}}"))
    limits = {pod.name: pod.containers[0]["resources"]["limits"] for pod in _services(manifests)}
    assert limits["demo-draftpool-drafter"]["nvidia.com/gpu"] == 1
    assert limits["demo-draftpool-verifier-tiny-neox"]["amd.com/gpu"] == 2
    assert "nvidia.com/gpu" not in limits["demo-draftpool-verifier-tiny-neox"]
    drafter = _settings(manifests.pod("demo-draftpool-drafter"), monkeypatch)[DrafterSettings]
    assert isinstance(drafter, DrafterSettings)
    assert drafter.device == "cuda"


def test_a_target_cut_over_gpus_is_one_process_a_gpu() -> None:
    container = render(values_of("verifier: {gpus: 4}")).pod("demo-draftpool-verifier-tiny-llama").containers[0]
    parsed = torchrun_parser().parse_args(container["args"])
    assert (container["command"], parsed.nproc_per_node, parsed.training_script) == (["torchrun"], "4", "draftpool")


def test_extra_arguments_are_options_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(values_of("drafter: {extraArgs: [--max-sessions=7]}"))
    settings = _settings(manifests.pod("demo-draftpool-drafter"), monkeypatch)[DrafterSettings]
    assert isinstance(settings, DrafterSettings)
    assert settings.max_sessions == 7


def test_a_download_is_one_that_the_hubs_own_command_understands_and_ends_where_the_service_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = {"source": "hub", "id": "org/Model-1.5", "revision": "v1", "exclude": ["*.bin", "original/*"]}
    pod = render({"targets": [{"name": "a", "model": model}]}).pod("demo-draftpool-verifier-a")
    download, _ = pod.containers
    hub_command, *words = download["command"], *download["args"]

    assert hub_command == ["hf", "download"]
    asked = hub_app.commands["download"].materialize().make_context("download", words).params
    assert (asked["repo_id"], asked["revision"], list(asked["exclude"])) == ("org/Model-1.5", "v1", model["exclude"])
    settings = _settings(pod, monkeypatch)[VerifierSettings]
    assert isinstance(settings, VerifierSettings)
    assert settings.model == asked["local_dir"] == "/models/org--Model-1.5--v1"


def test_the_sentence_of_helm_test_is_asked_of_every_target(manifests: Manifests) -> None:
    (test,) = (pod for pod in manifests.pods if pod.component == "test")
    asked = []
    for container in test.containers:
        command, subcommand, *words = *container["command"], *container["args"]
        context = _command([subcommand]).make_context(subcommand, words)
        assert command == "draftpool"
        assert context.params["address"].endswith("-orchestrator:50050")
        asked.append(context.params["model"])
    served = [
        environment(pod.spec["containers"][0])["DRAFTPOOL_VERIFIER_NAME"]
        for pod in manifests.pods
        if pod.component == "verifier"
    ]
    assert asked == served


def test_the_schema_has_the_settings_that_the_services_have() -> None:
    schema = json.loads(SCHEMA.read_text())
    stale = [name for name, definition in settings_definitions().items() if schema["definitions"][name] != definition]
    assert stale == [], "run `make chart`"
    assert SCHEMA.read_text() == as_text(with_settings(schema)) + "\n"


def test_what_the_chart_sets_itself_is_a_setting_of_some_service() -> None:
    fields = set().union(*(role.settings_class.model_fields for role in ROLES))
    assert fields >= SET_BY_THE_CHART


def test_the_chart_knows_the_embedded_models() -> None:
    check = (CHART / "templates" / "_checks.tpl").read_text()
    assert f"(list {' '.join(json.dumps(name) for name in EMBEDDED_MODELS)})" in check


def test_ports_are_those_of_the_images() -> None:
    docker = Path(__file__).parents[2] / "deploy" / "docker"
    for pod in _services(render({})):
        assert f"EXPOSE {pod.ports['grpc']}\n" in (docker / f"Dockerfile.{pod.component}").read_text()
