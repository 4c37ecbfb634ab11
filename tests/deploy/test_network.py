"""Who may talk to whom: what the design draws, and nothing else.

Policies are evaluated as Kubernetes does: a pod that any policy selects may only do what some policy allows, and a
connection needs leave at both ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pytest

from tests.deploy.chart import Manifests, Object, Pod, matches, render, values_of

DESIGN = {
    ("orchestrator", "drafter", "grpc"),
    ("orchestrator", "verifier", "grpc"),
    ("orchestrator", "redis", "redis"),
    ("orchestrator", "orchestrator", "scaler"),
    ("test", "orchestrator", "grpc"),
}


def _policies(manifests: Manifests, pod: Pod, direction: str) -> list[Object]:
    return [
        policy["spec"]
        for policy in manifests.of_kind("NetworkPolicy")
        if matches(policy["spec"]["podSelector"], pod.labels) and direction in policy["spec"]["policyTypes"]
    ]


def _has_port(rule: Object, port: int) -> bool:
    return any(allowed["port"] == port for allowed in rule["ports"])


def _takes_in(peers: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Whether a pod of the same namespace is among the peers."""
    return any(
        "namespaceSelector" not in peer and matches(peer["podSelector"], labels)
        for peer in peers
        if "podSelector" in peer
    )


def may_talk(manifests: Manifests, caller: Pod, called: Pod, port: int) -> bool:
    leaving = [rule for policy in _policies(manifests, caller, "Egress") for rule in policy["egress"]]
    entering = [rule for policy in _policies(manifests, called, "Ingress") for rule in policy["ingress"]]
    return any(_has_port(rule, port) and _takes_in(rule["to"], called.labels) for rule in leaving) and any(
        _has_port(rule, port) and _takes_in(rule["from"], caller.labels) for rule in entering
    )


def _connections(manifests: Manifests) -> Iterator[tuple[Pod, Pod, str]]:
    for caller, called in product(manifests.pods, repeat=2):
        for name, port in called.ports.items():
            if may_talk(manifests, caller, called, port):
                yield caller, called, name


def test_every_pod_is_under_a_policy_in_both_directions(manifests: Manifests) -> None:
    for pod, direction in product(manifests.pods, ("Ingress", "Egress")):
        assert len(_policies(manifests, pod, direction)) == 1


def test_pods_talk_as_the_design_draws_and_not_otherwise(manifests: Manifests) -> None:
    seen = {(caller.component, called.component, port) for caller, called, port in _connections(manifests)}
    callers = {pod.component for pod in manifests.pods}
    ports = {(pod.component, port) for pod in manifests.pods for port in pod.ports}
    assert seen == {line for line in DESIGN if line[0] in callers and line[1:] in ports}


def test_every_pod_of_a_pool_is_reached(manifests: Manifests) -> None:
    reached = {called.name for caller, called, _ in _connections(manifests) if caller.component == "orchestrator"}
    pools = {pod.name for pod in manifests.pods if pod.component in ("drafter", "verifier", "redis")}
    assert reached - {pod.name for pod in manifests.pods if pod.component == "orchestrator"} == pools


def test_no_pod_of_the_release_reads_the_metrics_of_another(manifests: Manifests) -> None:
    assert "metrics" not in {port for _, _, port in _connections(manifests)}


def test_metrics_are_read_from_where_prometheus_is(manifests: Manifests) -> None:
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    for policy in manifests.of_kind("NetworkPolicy"):
        readers = [rule["from"] for rule in policy["spec"]["ingress"] if _has_port(rule, 9090)]
        component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        assert readers == ([] if component in ("redis", "test") else [prometheus])


def test_nobody_is_let_in_or_out_by_an_empty_rule(manifests: Manifests) -> None:
    """A rule without ports or without peers would mean all of them."""
    for policy in manifests.of_kind("NetworkPolicy"):
        assert all(rule["ports"] and rule["from"] for rule in policy["spec"]["ingress"])
        assert all(rule["ports"] and rule["to"] for rule in policy["spec"]["egress"])


def test_a_pool_with_its_model_at_hand_calls_nobody(defaults: Manifests) -> None:
    for pod in defaults.pods:
        if pod.component in ("drafter", "verifier"):
            assert [policy["egress"] for policy in _policies(defaults, pod, "Egress")] == [[]]


def test_a_pool_that_downloads_calls_the_outside_and_not_the_inside() -> None:
    manifests = render(values_of("targets: [{name: a, model: {source: hub, id: org/model}}]"))
    (policy,) = _policies(manifests, manifests.pod("demo-draftpool-verifier-a"), "Egress")
    hub, dns = policy["egress"]
    assert hub["ports"] == [{"port": 443}]
    assert "10.0.0.0/8" in hub["to"][0]["ipBlock"]["except"]
    assert {allowed["port"] for allowed in dns["ports"]} == {53}


def test_an_external_redis_is_called_where_it_is_and_nowhere_else(production: Manifests) -> None:
    (policy,) = _policies(production, production.pod("draftpool-orchestrator"), "Egress")
    to_redis = [rule for rule in policy["egress"] if _has_port(rule, 6380)]
    assert [rule["to"] for rule in to_redis] == [[{"ipBlock": {"cidr": "10.20.0.0/24"}}]]


def test_only_orchestrators_reach_the_api_server_and_only_where_they_ask_it(production: Manifests) -> None:
    there = {"ipBlock": {"cidr": "10.30.0.10/32"}}
    for manifests, expected in (
        (production, {"orchestrator"}),
        (render({"orchestrator": {"discovery": "dns"}}), set()),
    ):
        rules = {
            pod.component: [rule for policy in _policies(manifests, pod, "Egress") for rule in policy["egress"]]
            for pod in manifests.pods
        }
        assert {component for component, egress in rules.items() if any(_has_port(r, 6443) for r in egress)} == expected
    (policy,) = _policies(production, production.pod("draftpool-orchestrator"), "Egress")
    assert [rule["to"] for rule in policy["egress"] if _has_port(rule, 6443)] == [[there]]


def test_kedas_operator_reaches_the_scaler_and_nothing_else(production: Manifests) -> None:
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}},
        "podSelector": {"matchLabels": {"app": "keda-operator"}},
    }
    let_in = {
        (pod.component, allowed["port"])
        for pod in production.pods
        for policy in _policies(production, pod, "Ingress")
        for rule in policy["ingress"]
        if operator in rule["from"]
        for allowed in rule["ports"]
    }
    assert let_in == {("orchestrator", 50060)}


@pytest.mark.parametrize("labels", [{"app": "somebody"}, {}])
def test_pods_of_the_namespace_may_ask_the_orchestrator_and_no_other_service(
    defaults: Manifests, labels: dict[str, str]
) -> None:
    stranger = Pod({"metadata": {"name": "stranger"}}, labels, {"containers": []})
    let_in = {
        called.component
        for called in defaults.pods
        for policy in _policies(defaults, called, "Ingress")
        for rule in policy["ingress"]
        if _takes_in(rule["from"], stranger.labels)
    }
    assert let_in == {"orchestrator"}


def test_where_clients_come_through_a_gateway_the_namespace_is_shut_out(production: Manifests) -> None:
    (policy,) = _policies(production, production.pod("draftpool-orchestrator"), "Ingress")
    peers = next(rule["from"] for rule in policy["ingress"] if _has_port(rule, 50050))
    assert not _takes_in(peers, {"app": "somebody"})
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}}} in peers


def test_two_releases_of_one_namespace_do_not_reach_each_others_pools() -> None:
    ours, theirs = (render({"redis": {"mode": "none"}}, release) for release in ("ours", "theirs"))
    both = Manifests((*ours.objects, *theirs.objects))
    for caller, called, _ in _connections(both):
        same = caller.labels["app.kubernetes.io/instance"] == called.labels["app.kubernetes.io/instance"]
        assert same or called.component == "orchestrator"


def test_policies_can_be_left_out() -> None:
    assert render({"networkPolicy": {"enabled": False}}).of_kind("NetworkPolicy") == []
