"""Objects whose schemas do not come with Kubernetes.

For the Prometheus Operator and KEDA, models made from their own CRDs check them. They leave out what they do not
know, so an object is right where it comes back unchanged. No such package has the Gateway API: its objects are
compared with what the specification says that they have.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import BaseModel, ValidationError

from tests.deploy.chart import Manifests, Object, render, values_of

MODELS: dict[str, Any] = {
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
}


def understood(model: type[BaseModel], found: Object) -> Object:
    """What the model keeps of an object."""
    return json.loads(model.model_validate(found).model_dump_json(by_alias=True, exclude_unset=True))


@pytest.mark.parametrize("kind", MODELS)
def test_the_projects_own_schema_takes_it(production: Manifests, kind: str) -> None:
    objects = production.of_kind(kind)
    assert objects
    assert [understood(MODELS[kind], found) for found in objects] == objects


def test_a_wrong_object_would_be_noticed(production: Manifests) -> None:
    (monitor,) = production.of_kind("PodMonitor")
    endpoint = monitor["spec"]["podMetricsEndpoints"][0]
    misspelt = {**monitor, "spec": {**monitor["spec"], "podMetricsEndpoints": [{**endpoint, "intervall": "1s"}]}}
    assert understood(PodMonitor, misspelt) != misspelt
    with pytest.raises(ValidationError):
        PodMonitor.model_validate({**monitor, "spec": {"podMetricsEndpoints": "none"}})


def test_a_grpc_route_is_as_the_gateway_api_says() -> None:
    values = """
        orchestrator:
          grpcRoute:
            enabled: true
            parentRefs: [{name: public, namespace: gateway, sectionName: grpc}]
            hostnames: [draftpool.example.com]
    """
    (route,) = render(values_of(values)).of_kind("GRPCRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"] == {
        "parentRefs": [{"name": "public", "namespace": "gateway", "sectionName": "grpc"}],
        "hostnames": ["draftpool.example.com"],
        "rules": [{"backendRefs": [{"name": "demo-draftpool-orchestrator", "port": 50050}]}],
    }


def test_a_gateway_speaks_tls_to_orchestrators_that_do(production: Manifests) -> None:
    (policy,), (route,) = production.of_kind("BackendTLSPolicy"), production.of_kind("GRPCRoute")
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert policy["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert policy["spec"] == {
        "targetRefs": [{"group": "", "kind": "Service", "name": backend["name"]}],
        "validation": {
            "hostname": "draftpool-orchestrator.draftpool.svc",
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "draftpool-ca"}],
        },
    }


def test_a_gateway_speaks_plain_text_to_orchestrators_that_do() -> None:
    values = "orchestrator: {grpcRoute: {enabled: true, parentRefs: [{name: public}], backendCa: ca}}"
    manifests = render(values_of(values))
    (port,) = manifests.named("Service", "demo-draftpool-orchestrator")["spec"]["ports"]
    assert manifests.of_kind("BackendTLSPolicy") == []
    assert port["appProtocol"] == "kubernetes.io/h2c"
