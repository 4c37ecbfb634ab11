"""What autoscalers are told is what the services and the external scaler understand."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.scaling.signals import ScaledPool
from orchestrator.settings import OrchestratorSettings
from tests.deploy.chart import Manifests, Object, environment, render, values_of
from tests.deploy.series import gauges

SCALED = """
    orchestrator: {scaler: {enabled: true}}
    drafter: {autoscaling: {mode: keda, minReplicas: 0}}
    targets:
      - {name: plain, model: {id: tiny-llama}, autoscaling: {mode: keda}}
      - name: seldom
        servedName: Seldom-1
        model: {id: tiny-neox}
        autoscaling: {mode: keda, minReplicas: 0, cooldownSeconds: 60, thresholds: {queueMs: 500, requests: 8}}
"""


def _triggers(manifests: Manifests) -> dict[str, Object]:
    """The one trigger of each ScaledObject."""
    found = {}
    for scaled in manifests.of_kind("ScaledObject"):
        (found[scaled["metadata"]["name"]],) = scaled["spec"]["triggers"]
    return found


def _cold_targets(manifests: Manifests) -> list[str]:
    told = environment(manifests.pod("demo-draftpool-orchestrator").containers[0])
    return told.get("DRAFTPOOL_ORCHESTRATOR_COLD_TARGETS", "").split(",")


def test_keda_is_told_what_the_scaler_understands_and_the_values_say() -> None:
    metadata = {name: trigger["metadata"] for name, trigger in _triggers(render(values_of(SCALED))).items()}
    assert {name: ScaledPool.from_metadata(told) for name, told in metadata.items()} == {
        "demo-draftpool-drafter": ScaledPool(None, {"busyShare": 0.7, "queueMs": 10}),
        "demo-draftpool-verifier-plain": ScaledPool("plain", {"budgetShare": 0.7, "queueMs": 250}),
        "demo-draftpool-verifier-seldom": ScaledPool("Seldom-1", {"budgetShare": 0.7, "queueMs": 500, "requests": 8}),
    }


def test_thresholds_are_the_scalers_own_where_nothing_is_said() -> None:
    for trigger in _triggers(
        render(values_of(SCALED.replace(", thresholds: {queueMs: 500, requests: 8}", "")))
    ).values():
        pool = {name: trigger["metadata"][name] for name in ("pool", "target") if name in trigger["metadata"]}
        assert ScaledPool.from_metadata(trigger["metadata"]) == ScaledPool.from_metadata(pool)


def test_keda_hears_at_once_from_the_service_of_the_scaler() -> None:
    manifests = render(values_of(SCALED))
    for trigger in _triggers(manifests).values():
        host, _, port = trigger["metadata"]["scalerAddress"].partition(":")
        service, namespace, svc = host.split(".")
        assert (trigger["type"], namespace, svc) == ("external-push", "models", "svc")
        assert [str(exposed["port"]) for exposed in manifests.named("Service", service)["spec"]["ports"]] == [port]
        assert trigger.get("metricType", "AverageValue") == "AverageValue", "values are sums"


def test_orchestrators_serve_the_scaler_where_its_service_leads_and_ask_each_other_there() -> None:
    manifests = render(values_of(SCALED))
    pod = manifests.pod("demo-draftpool-orchestrator")
    told = environment(pod.containers[0])
    assert told["DRAFTPOOL_ORCHESTRATOR_SCALER_LISTEN"] == f"0.0.0.0:{pod.ports['scaler']}"
    service, _, port = told["DRAFTPOOL_ORCHESTRATOR_PEERS"].removeprefix("kubernetes:///").partition(":")
    assert manifests.named("Service", service)["spec"]["clusterIP"] == "None"
    assert int(port) == pod.ports["scaler"]


def test_without_a_scaler_there_is_nothing_of_it(defaults: Manifests) -> None:
    pod = defaults.pod("demo-draftpool-orchestrator")
    assert "scaler" not in pod.ports
    assert not [name for name in environment(pod.containers[0]) if "SCALER" in name or "PEER" in name]
    assert not [found for found in defaults.objects if found["metadata"]["name"].endswith(("-scaler", "-peers"))]


def test_a_target_that_goes_to_zero_is_one_that_requests_wait_for_and_no_other_is() -> None:
    manifests = render(values_of(SCALED))
    assert _cold_targets(manifests) == ["Seldom-1"]
    minimum = {
        found["metadata"]["name"]: found["spec"]["minReplicaCount"] for found in manifests.of_kind("ScaledObject")
    }
    assert minimum == {
        "demo-draftpool-drafter": 0,
        "demo-draftpool-verifier-plain": 1,
        "demo-draftpool-verifier-seldom": 0,
    }


def test_all_targets_go_to_zero_where_the_verifiers_do() -> None:
    values = "{orchestrator: {scaler: {enabled: true}}, verifier: {autoscaling: {mode: keda, minReplicas: 0}}}"
    assert _cold_targets(render(values_of(values))) == ["tiny-llama", "tiny-neox"]


def test_an_idle_target_stays_as_long_as_is_said() -> None:
    specs = {found["metadata"]["name"]: found["spec"] for found in render(values_of(SCALED)).of_kind("ScaledObject")}
    assert specs["demo-draftpool-verifier-seldom"]["cooldownPeriod"] == 60
    assert "cooldownPeriod" not in specs["demo-draftpool-verifier-plain"], "it is about the way to zero alone"


def test_triggers_of_ones_own_take_the_place_of_the_scalers() -> None:
    trigger = {"type": "cpu", "metadata": {"value": "60"}}
    manifests = render({"drafter": {"autoscaling": {"mode": "keda", "triggers": [trigger]}}})
    assert _triggers(manifests) == {"demo-draftpool-drafter": trigger}


def test_keda_shows_its_certificate_and_checks_ours(production: Manifests) -> None:
    (authentication,) = production.of_kind("TriggerAuthentication")
    given = {entry["parameter"]: (entry["name"], entry["key"]) for entry in authentication["spec"]["secretTargetRef"]}
    assert given == {
        "caCert": ("draftpool-keda-tls", "ca.crt"),
        "tlsClientCert": ("draftpool-keda-tls", "tls.crt"),
        "tlsClientKey": ("draftpool-keda-tls", "tls.key"),
    }
    for trigger in _triggers(production).values():
        assert trigger["metadata"]["enableTLS"] == "true"
        assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
        ScaledPool.from_metadata(trigger["metadata"])


def test_orchestrators_know_each_other_by_their_own_name(production: Manifests) -> None:
    told = environment(production.pod("draftpool-orchestrator").containers[0])
    assert told["DRAFTPOOL_ORCHESTRATOR_PEER_SERVER_NAME"] == "draftpool-orchestrator.draftpool.svc"
    assert told["DRAFTPOOL_TLS_SERVER_NAME"] == "pools.draftpool.internal"


def test_there_is_time_for_a_cold_start(production: Manifests) -> None:
    """The example waits for a node too, so for longer than the service does by itself."""
    told = environment(production.pod("draftpool-orchestrator").containers[0])
    assert float(told["DRAFTPOOL_ORCHESTRATOR_COLD_START_S"]) > OrchestratorSettings().cold_start_s


@pytest.mark.parametrize(
    ("pool", "thresholds", "expected"),
    [
        ("drafter", "{}", {"draftpool_drafter_busy_share": "700m", "draftpool_drafter_recent_queue_seconds": "10m"}),
        (
            "verifier",
            "{budgetShare: 0.29, queueMs: 1500}",
            {"draftpool_verifier_budget_share": "290m", "draftpool_verifier_recent_queue_seconds": "1500m"},
        ),
    ],
)
def test_a_horizontal_pod_autoscaler_goes_by_the_gauges_of_the_pods(
    pool: str, thresholds: str, expected: dict[str, str]
) -> None:
    manifests = render(values_of(f"{pool}: {{autoscaling: {{mode: hpa, thresholds: {thresholds}}}}}"))
    for autoscaler in manifests.of_kind("HorizontalPodAutoscaler"):
        metrics = [metric["pods"] for metric in autoscaler["spec"]["metrics"]]
        assert {metric["metric"]["name"]: metric["target"]["averageValue"] for metric in metrics} == expected
        assert expected.keys() <= gauges()
        assert {metric["target"]["type"] for metric in metrics} == {"AverageValue"}


def test_metrics_of_ones_own_take_the_place_of_the_gauges() -> None:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    manifests = render({"verifier": {"autoscaling": {"mode": "hpa", "metrics": [metric]}}})
    metrics = itertools.chain(*(found["spec"]["metrics"] for found in manifests.of_kind("HorizontalPodAutoscaler")))
    assert list(metrics) == [metric, metric]
