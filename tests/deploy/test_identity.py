"""Certificates and keys: who a service is, and whom it lets in."""

from __future__ import annotations

import pytest

from tests.deploy.chart import Manifests, Object, Pod, environment, example, render, values_of

TLS = """
    tls:
      enabled: true
      secrets: {orchestrator: o, drafter: d, verifier: v, client: c}
      poolName: pools.internal
      orchestratorName: front.internal
"""
SERVICES = ("orchestrator", "drafter", "verifier")


def _told(pod: Pod) -> dict[str, str]:
    return environment(pod.spec["containers"][0])


def _services(manifests: Manifests) -> list[Pod]:
    return [pod for pod in manifests.pods if pod.component in SERVICES]


def test_a_service_without_tls_is_told_so_and_one_with_it_is_not(defaults: Manifests, production: Manifests) -> None:
    assert {_told(pod).get("DRAFTPOOL_SERVER_INSECURE") for pod in _services(defaults)} == {"true"}
    assert {_told(pod).get("DRAFTPOOL_SERVER_INSECURE") for pod in _services(production)} == {None}


def test_nothing_of_tls_is_left_where_it_is_off(defaults: Manifests) -> None:
    for pod in defaults.pods:
        assert not [name for name in _told(pod) if "TLS" in name or "CALLERS" in name or "CERTIFICATES" in name]
        assert "tls" not in {volume["name"] for volume in pod.spec["volumes"]}


def test_certificates_are_where_the_settings_say(production: Manifests) -> None:
    for pod in production.pods:
        secret = next(volume["secret"]["secretName"] for volume in pod.spec["volumes"] if volume["name"] == "tls")
        component = "client" if pod.component == "test" else pod.component
        assert secret == f"draftpool-{component}-tls"
        for container in pod.containers:
            folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tls")
            told = environment(container)
            assert told["DRAFTPOOL_TLS_CERT_FILE"] == f"{folder}/tls.crt"
            assert told["DRAFTPOOL_TLS_KEY_FILE"] == f"{folder}/tls.key"
            assert told["DRAFTPOOL_TLS_CA_FILE"] == f"{folder}/ca.crt"


def test_drafters_and_verifiers_let_in_the_orchestrator_alone() -> None:
    for pod in _services(render(values_of(TLS))):
        expected = None if pod.component == "orchestrator" else "front.internal"
        assert _told(pod).get("DRAFTPOOL_SERVER_ALLOWED_CALLERS") == expected


def test_every_caller_knows_the_name_on_the_certificate_that_it_meets() -> None:
    """Pools are called by address and `helm test` by the Service's name, and neither need be on a certificate."""
    manifests = render(values_of(TLS))
    names = {pod.component: _told(pod).get("DRAFTPOOL_TLS_SERVER_NAME") for pod in manifests.pods}
    del names["redis"]
    assert names == {"orchestrator": "pools.internal", "test": "front.internal", "drafter": None, "verifier": None}


def test_probes_ask_through_the_image_and_know_the_name_too() -> None:
    """Kubernetes cannot ask over TLS."""
    for pod in _services(render(values_of(TLS))):
        name = "front.internal" if pod.component == "orchestrator" else "pools.internal"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert pod.spec["containers"][0][probe]["exec"]["command"] == [
                "draftpool",
                "health",
                f"--address=127.0.0.1:{pod.ports['grpc']}",
                f"--server-name={name}",
            ]


@pytest.mark.parametrize(
    ("with_tls", "with_keys", "certificates"),
    [(False, False, None), (False, True, None), (True, False, "true"), (True, True, None)],
)
def test_with_tls_clients_show_a_certificate_where_they_need_no_key(
    with_tls: bool, with_keys: bool, certificates: str | None
) -> None:
    values = {**values_of(TLS if with_tls else ""), "apiKeys": {"existingSecret": "keys" if with_keys else ""}}
    told = _told(render(values).pod("demo-draftpool-orchestrator"))
    assert told.get("DRAFTPOOL_ORCHESTRATOR_REQUIRE_CLIENT_CERTIFICATES") == certificates


def test_the_file_of_keys_is_where_the_setting_says_and_nowhere_else(production: Manifests) -> None:
    for pod in _services(production):
        path = _told(pod).get("DRAFTPOOL_ORCHESTRATOR_API_KEYS_FILE")
        volumes = [volume for volume in pod.spec["volumes"] if volume["name"] == "api-keys"]
        if pod.component == "orchestrator":
            mounts = {mount["name"]: mount["mountPath"] for mount in pod.spec["containers"][0]["volumeMounts"]}
            assert path == f"{mounts['api-keys']}/api-keys"
            assert [volume["secret"]["secretName"] for volume in volumes] == ["draftpool-api-keys"]
        else:
            assert (path, volumes) == (None, [])


def _key_of_the_test(manifests: Manifests) -> list[Object]:
    (test,) = (pod for pod in manifests.pods if pod.component == "test")
    variables = [variable for container in test.containers for variable in container.get("env", ())]
    return [variable["valueFrom"] for variable in variables if variable["name"] == "DRAFTPOOL_API_KEY"]


def test_the_test_shows_a_key_where_one_is_asked_for(defaults: Manifests, production: Manifests) -> None:
    assert _key_of_the_test(defaults) == []
    reference = {"secretKeyRef": {"name": "draftpool-test-key", "key": "api-key"}}
    assert _key_of_the_test(production) == [reference] * len(example("production")["targets"])
