"""What Helm makes of the chart, and whether Kubernetes would take it."""

from __future__ import annotations

import helm_python
import pytest
from kubernetes_validate.utils import all_versions, major_minor, validate

from tests.deploy.chart import CHART, EXAMPLES, Manifests, environment, example, render, rendered_files, values_of

OLDEST, *_, NEWEST = all_versions()

OF_OTHER_PROJECTS = {
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "TriggerAuthentication",
    "GRPCRoute",
    "BackendTLSPolicy",
}
"""Their schemas do not come with Kubernetes."""

WARNING = 2  # Helm's severities: 1 is a remark


@pytest.mark.parametrize("name", ["defaults", *EXAMPLES])
def test_helm_lint_finds_nothing(name: str) -> None:
    report = helm_python.lint(CHART, dict(example(name)), strict=True)

    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= WARNING] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(manifests: Manifests, version: str) -> None:
    checked = [found for found in manifests.objects if found["kind"] not in OF_OTHER_PROJECTS]

    for found in checked:
        validate(found, version, strict=True)
    assert len(checked) > 10


def test_the_oldest_version_that_is_tested_is_the_one_that_the_chart_asks_for() -> None:
    with helm_python.Chart.load(CHART) as chart:
        assert chart.metadata["kubeVersion"] == f">={major_minor(OLDEST)}.0-0"


def test_the_chart_is_of_the_version_that_is_packaged() -> None:
    pyproject = (CHART.parents[2] / "pyproject.toml").read_text()
    with helm_python.Chart.load(CHART) as chart:
        assert f'version = "{chart.metadata["appVersion"]}"' in pyproject


def test_no_two_objects_of_a_kind_have_one_name(manifests: Manifests) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in manifests.objects]
    assert len(names) == len(set(names))


def test_all_names_fit_into_a_label(manifests: Manifests) -> None:
    assert all(len(found["metadata"]["name"]) <= 63 for found in manifests.objects)


def test_adding_a_target_is_adding_an_entry() -> None:
    """It brings objects of its own, and of the others only what names all targets changes."""
    targets = list(values_of("[{name: first, model: {id: tiny-llama}}, {name: second, model: {id: tiny-neox}}]"))
    one, two = (render({"targets": targets[:count], "redis": {"mode": "none"}}) for count in (1, 2))

    names = {(found["kind"], found["metadata"]["name"]) for found in one.objects}
    added = [found for found in two.objects if (found["kind"], found["metadata"]["name"]) not in names]
    changed = [found for found in two.objects if found not in added and found not in one.objects]

    assert {found["metadata"]["name"] for found in added} == {"demo-draftpool-verifier-second"}
    assert {found["kind"] for found in added} == {
        "Deployment",
        "Service",
        "ServiceAccount",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    assert sorted((found["kind"], found["metadata"]["name"]) for found in changed) == [
        ("Deployment", "demo-draftpool-orchestrator"),
        ("NetworkPolicy", "demo-draftpool-orchestrator"),
        ("Pod", "demo-draftpool-test"),
    ]


def test_what_a_target_does_not_say_it_has_from_verifier_and_nobody_else_has_what_it_says() -> None:
    manifests = render(
        values_of("""
            verifier: {replicas: 3, settings: {max_sessions: 8, max_idle_s: 2}}
            targets:
              - {name: plain, model: {id: tiny-llama}}
              - {name: other, model: {id: tiny-neox}, replicas: 5, settings: {max_sessions: 9}}
        """)
    )
    seen = {}
    for name in ("plain", "other"):
        deployment = manifests.named("Deployment", f"demo-draftpool-verifier-{name}")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        told = environment(container)
        seen[name] = (
            deployment["spec"]["replicas"],
            *(told[f"DRAFTPOOL_VERIFIER_{setting}"] for setting in ("MAX_SESSIONS", "MAX_IDLE_S")),
        )
    assert seen == {"plain": (3, "8", "2"), "other": (5, "9", "2")}


def test_numbers_reach_the_service_as_they_were_written() -> None:
    """YAML and JSON turn large whole numbers into floats, which print as 1.7e+10."""
    settings = {"kv_bytes": 17179869184, "kv_memory_share": 0.85, "cuda_graphs": False, "max_sessions": 1_000_000}
    manifests = render({"verifier": {"settings": settings}})

    told = environment(manifests.pod("demo-draftpool-verifier-tiny-llama").containers[0])
    assert {name: told[f"DRAFTPOOL_VERIFIER_{name.upper()}"] for name in settings} == {
        "kv_bytes": "17179869184",
        "kv_memory_share": "0.85",
        "cuda_graphs": "false",
        "max_sessions": "1000000",
    }


def test_the_notes_say_what_to_type_next() -> None:
    notes = next(text for path, text in rendered_files({}).items() if path.endswith("NOTES.txt"))
    for command in (
        "helm -n models test demo",
        "port-forward service/demo-draftpool-orchestrator",
        "draftpool generate",
    ):
        assert command in notes


def test_the_notes_name_what_starts_when_it_is_asked_for() -> None:
    values = "{orchestrator: {scaler: {enabled: true}}, verifier: {autoscaling: {mode: keda, minReplicas: 0}}}"
    notes = next(text for path, text in rendered_files(values_of(values)).items() if path.endswith("NOTES.txt"))
    assert "let go when nobody asks: tiny-llama, tiny-neox." in notes


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ("metrics: {podMonitor: {enabled: true}}", "PodMonitor"),
        ("metrics: {rules: {enabled: true}}", "PrometheusRule"),
        ("orchestrator: {grpcRoute: {enabled: true, parentRefs: [{name: public}]}}", "GRPCRoute"),
        ("{drafter: {autoscaling: {mode: keda}}, orchestrator: {scaler: {enabled: true}}}", "ScaledObject"),
        ("orchestrator: {ingress: {enabled: true, hosts: [draftpool.example.com]}}", "Ingress"),
        ("drafter: {autoscaling: {mode: hpa}}", "HorizontalPodAutoscaler"),
        ("modelCache: {create: true}", "PersistentVolumeClaim"),
    ],
)
def test_what_not_every_cluster_has_comes_only_when_asked_for(defaults: Manifests, values: str, kind: str) -> None:
    assert defaults.of_kind(kind) == []
    assert len(render(values_of(values)).of_kind(kind)) == 1


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_an_autoscaler_has_the_number_of_replicas_to_itself(mode: str) -> None:
    manifests = render({"drafter": {"autoscaling": {"mode": mode}}, "orchestrator": {"scaler": {"enabled": True}}})
    assert "replicas" not in manifests.named("Deployment", "demo-draftpool-drafter")["spec"]
    assert manifests.named("Deployment", "demo-draftpool-orchestrator")["spec"]["replicas"] == 1


def test_a_rendering_is_the_same_the_second_time() -> None:
    values = {"redis": {"mode": "none"}}  # whose password would be random
    assert render(values) == render(values)
