"""What names something else names something that is there."""

from __future__ import annotations

import re

from tests.deploy.chart import Manifests, Pod, environment, matches, render, values_of


def _pods_of(manifests: Manifests, selector: dict[str, str]) -> list[Pod]:
    return [pod for pod in manifests.pods if matches({"matchLabels": selector}, pod.labels)]


def test_a_deployment_finds_its_own_pods_and_no_others(manifests: Manifests) -> None:
    for deployment in manifests.of_kind("Deployment"):
        found = _pods_of(manifests, deployment["spec"]["selector"]["matchLabels"])
        assert [pod.name for pod in found] == [deployment["metadata"]["name"]]


def test_a_service_leads_to_one_pool_and_to_a_port_of_it(manifests: Manifests) -> None:
    for service in manifests.of_kind("Service"):
        (pod,) = _pods_of(manifests, service["spec"]["selector"])
        assert pod.name == service["metadata"]["name"] or service["spec"]["ports"][0]["name"] == "scaler"
        for port in service["spec"]["ports"]:
            assert pod.ports[port["targetPort"]] == port["port"]


def test_pools_have_no_address_of_their_own(manifests: Manifests) -> None:
    """Orchestrators must see the replicas, and each other; for clients and for KEDA any one will do."""
    for service in manifests.of_kind("Service"):
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        sees_all = component in ("drafter", "verifier") or service["metadata"]["name"].endswith("-peers")
        assert (service["spec"].get("clusterIP") == "None") == sees_all


def test_the_scaler_is_not_where_clients_come_in() -> None:
    """The public Service may be a LoadBalancer, and KEDA shows no key."""
    manifests = render(values_of("orchestrator: {scaler: {enabled: true}, service: {type: LoadBalancer}}"))
    ports = {
        service["metadata"]["name"].removeprefix("demo-draftpool-"): (
            service["spec"].get("type"),
            [port["name"] for port in service["spec"]["ports"]],
        )
        for service in manifests.of_kind("Service")
    }
    assert ports["orchestrator"] == ("LoadBalancer", ["grpc"])
    assert ports["scaler"] == ports["peers"] == (None, ["scaler"])


def test_a_disruption_budget_is_of_one_pool_and_lets_a_node_be_drained(manifests: Manifests) -> None:
    budgets = manifests.of_kind("PodDisruptionBudget")
    for budget in budgets:
        (pod,) = _pods_of(manifests, budget["spec"]["selector"]["matchLabels"])
        assert pod.name == budget["metadata"]["name"]
        assert budget["spec"]["maxUnavailable"] != 0
    services = [pod for pod in manifests.pods if pod.component in ("drafter", "verifier", "orchestrator")]
    assert len(budgets) == len(services)


def test_an_autoscaler_scales_a_deployment_that_is_there(manifests: Manifests) -> None:
    scalers = [*manifests.of_kind("HorizontalPodAutoscaler"), *manifests.of_kind("ScaledObject")]
    for scaler in scalers:
        manifests.named("Deployment", scaler["spec"]["scaleTargetRef"]["name"])


def test_every_pod_has_an_account_of_its_own(manifests: Manifests) -> None:
    accounts = [found["metadata"]["name"] for found in manifests.of_kind("ServiceAccount")]
    used = [pod.spec["serviceAccountName"] for pod in manifests.pods if pod.component != "test"]
    assert sorted(used) == sorted(accounts)


def test_replicas_are_spread_by_the_labels_of_their_own_pool(manifests: Manifests) -> None:
    for deployment in manifests.of_kind("Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        for constraint in spec.get("topologySpreadConstraints", ()):
            assert constraint["labelSelector"] == deployment["spec"]["selector"]


def test_every_mount_has_its_volume_and_every_volume_a_mount(manifests: Manifests) -> None:
    for pod in manifests.pods:
        mounted = {mount["name"] for container in pod.containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod.spec["volumes"]}


def test_routes_lead_to_the_orchestrators_service() -> None:
    manifests = render(
        values_of("""
            orchestrator:
              ingress: {enabled: true, className: nginx, hosts: [a.example.com]}
              grpcRoute: {enabled: true, parentRefs: [{name: public}]}
        """)
    )
    (ingress,), (route,) = manifests.of_kind("Ingress"), manifests.of_kind("GRPCRoute")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    backend = route["spec"]["rules"][0]["backendRefs"][0]
    service = manifests.named("Service", backend["name"])
    assert path["backend"]["service"] == {"name": backend["name"], "port": {"name": "grpc"}}
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "orchestrator"
    assert backend["port"] == service["spec"]["ports"][0]["port"]


def test_redis_is_where_the_orchestrator_looks() -> None:
    manifests = render({})
    (reference,) = (
        variable["valueFrom"]["secretKeyRef"]
        for variable in manifests.pod("demo-draftpool-orchestrator").containers[0]["env"]
        if variable["name"] == "DRAFTPOOL_ORCHESTRATOR_REDIS_URL"
    )
    url = manifests.named("Secret", reference["name"])["stringData"][reference["key"]]
    host, _, port = url.rpartition("@")[2].partition("/")[0].partition(":")
    assert manifests.named("Service", host)["spec"]["ports"][0]["port"] == int(port)


def test_an_external_redis_is_known_from_a_secret_alone(production: Manifests) -> None:
    (variable,) = (
        variable
        for variable in production.pod("draftpool-orchestrator").containers[0]["env"]
        if variable["name"] == "DRAFTPOOL_ORCHESTRATOR_REDIS_URL"
    )
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "draftpool-redis", "key": "url"}}


def test_a_model_in_a_volume_is_read_from_there_and_never_written() -> None:
    manifests = render(values_of("drafter: {model: {source: volume, claimName: models, id: team/mamba}}"))
    pod = manifests.pod("demo-draftpool-drafter")
    (container,) = pod.containers
    volume = next(volume for volume in pod.spec["volumes"] if volume["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert environment(container)["DRAFTPOOL_DRAFTER_MODEL"] == "/models/team/mamba"


def test_downloads_share_a_claim_where_there_is_one() -> None:
    targets = "targets: [{name: a, model: {source: hub, id: o/a}}, {name: b, model: {source: hub, id: o/b}}]"
    own, given, neither = (
        render(values_of(f"{{{targets}, modelCache: {cache}}}"))
        for cache in ("{create: true}", "{existingClaim: mine}", "{size: 7Gi}")
    )

    def volumes(manifests: Manifests) -> list[object]:
        pods = [pod for pod in manifests.pods if pod.component == "verifier"]
        return [volume for pod in pods for volume in pod.spec["volumes"] if volume["name"] == "models"]

    claim = own.of_kind("PersistentVolumeClaim")[0]["metadata"]["name"]
    assert volumes(own) == [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}] * 2
    assert volumes(given) == [{"name": "models", "persistentVolumeClaim": {"claimName": "mine"}}] * 2
    assert given.of_kind("PersistentVolumeClaim") == []
    assert volumes(neither) == [{"name": "models", "emptyDir": {"sizeLimit": "7Gi"}}] * 2


def test_the_monitor_reads_the_metrics_of_every_service_and_nothing_else(production: Manifests) -> None:
    (monitor,) = production.of_kind("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    read = [pod for pod in production.pods if matches(monitor["spec"]["selector"], pod.labels)]
    ports = {pod.component: pod.ports[endpoint["port"]] for pod in read if endpoint["port"] in pod.ports}
    assert ports == dict.fromkeys(("drafter", "orchestrator", "verifier"), 9090)


def test_the_monitor_tells_pools_apart_by_labels_that_pods_have(production: Manifests) -> None:
    (monitor,) = production.of_kind("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    sources = {source for rule in endpoint["relabelings"] for source in rule["sourceLabels"]}
    as_prometheus_has_them = {
        f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', label)}"
        for label in production.pod("draftpool-verifier-llama-3-1-8b").labels
    }
    assert sources <= as_prometheus_has_them
