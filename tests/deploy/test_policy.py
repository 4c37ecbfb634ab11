"""What every pod of every example keeps to: the "restricted" Pod Security Standard, and more."""

from __future__ import annotations

import re

from orchestrator.slice_api import SERVICE_ACCOUNT
from tests.deploy.chart import Manifests, render, values_of

RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def test_nobody_is_root(manifests: Manifests) -> None:
    for pod in manifests.pods:
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert all("runAsUser" not in container["securityContext"] for container in pod.containers)


def test_the_runtimes_seccomp_profile_applies(manifests: Manifests) -> None:
    for pod in manifests.pods:
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_container_may_gain_privileges_or_write_to_its_root(manifests: Manifests) -> None:
    for pod in manifests.pods:
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_nothing_of_the_node_is_shared(manifests: Manifests) -> None:
    for pod in manifests.pods:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
        assert all(volume.keys() - {"name"} <= RESTRICTED_VOLUMES for volume in pod.spec["volumes"])
        assert all("hostPort" not in port for container in pod.containers for port in container.get("ports", ()))


def test_every_container_has_requests_and_limits(manifests: Manifests) -> None:
    for pod in manifests.pods:
        for container in pod.containers:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_what_fills_up_has_an_end(manifests: Manifests) -> None:
    for pod in manifests.pods:
        assert all(volume["emptyDir"]["sizeLimit"] for volume in pod.spec["volumes"] if "emptyDir" in volume)


def test_every_container_can_write_to_tmp(manifests: Manifests) -> None:
    """Home, caches and Triton's kernels are there, since the rest is read-only."""
    for pod in manifests.pods:
        assert any(volume["name"] == "tmp" and "emptyDir" in volume for volume in pod.spec["volumes"])
        for container in pod.containers:
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_images_are_of_one_version(manifests: Manifests) -> None:
    for pod in manifests.pods:
        for container in pod.containers:
            assert re.fullmatch(r".+(:[^:/]+|@sha256:[0-9a-f]{64})", container["image"])
            assert not container["image"].endswith(":latest")


def test_services_are_asked_for_their_health_in_all_three_ways(manifests: Manifests) -> None:
    for deployment in manifests.of_kind("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_a_start_may_take_as_long_as_is_said() -> None:
    manifests = render(values_of("verifier: {startupSeconds: 1801}"))
    probe = manifests.pod("demo-draftpool-verifier-tiny-llama").containers[0]["startupProbe"]
    assert 1801 <= probe["failureThreshold"] * probe["periodSeconds"] < 1801 + probe["periodSeconds"]


def test_kubernetes_asks_by_itself_where_there_is_no_tls(defaults: Manifests) -> None:
    for pod in defaults.pods:
        if pod.component in ("drafter", "verifier", "orchestrator"):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert pod.containers[-1][probe]["grpc"] == {"port": pod.ports["grpc"]}


def test_a_pod_is_given_the_time_that_its_drain_takes(manifests: Manifests) -> None:
    for pod in manifests.pods:
        for container in pod.spec["containers"]:
            told = {variable["name"]: variable.get("value") for variable in container.get("env", ())}
            if "DRAFTPOOL_SERVER_DRAIN_GRACE_S" not in told:
                continue
            _, wait_s = container["lifecycle"]["preStop"]["exec"]["command"]
            drain_s = int(told["DRAFTPOOL_SERVER_DRAIN_GRACE_S"])
            assert pod.spec["terminationGracePeriodSeconds"] >= int(wait_s) + drain_s + 10


def test_processes_of_one_target_are_given_the_time_of_the_drain() -> None:
    manifests = render(values_of("verifier: {gpus: 4, shutdown: {drainSeconds: 90}}"))
    arguments = manifests.pod("demo-draftpool-verifier-tiny-llama").containers[0]["args"]
    assert "--shutdown-timeout=95" in arguments


def test_no_token_comes_by_itself(manifests: Manifests) -> None:
    assert all(pod.spec["automountServiceAccountToken"] is False for pod in manifests.pods)
    assert all(account["automountServiceAccountToken"] is False for account in manifests.of_kind("ServiceAccount"))


def test_the_orchestrator_may_read_endpoint_slices_and_nobody_may_do_anything_else(manifests: Manifests) -> None:
    (role,), (binding,) = manifests.of_kind("Role"), manifests.of_kind("RoleBinding")
    (orchestrator,) = (pod for pod in manifests.pods if pod.component == "orchestrator")
    account = {"kind": "ServiceAccount", "name": orchestrator.spec["serviceAccountName"], "namespace": "models"}
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": role["metadata"]["name"],
    }
    assert binding["subjects"] == [account]
    assert manifests.of_kind("ClusterRole") == manifests.of_kind("ClusterRoleBinding") == []


def test_only_the_orchestrator_has_a_token_and_has_it_where_it_looks(manifests: Manifests) -> None:
    for pod in manifests.pods:
        tokens = [
            volume
            for volume in pod.spec["volumes"]
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ()))
        ]
        if pod.component != "orchestrator":
            assert tokens == []
            continue
        (token,), (container,) = tokens, pod.containers
        paths = [
            path
            for source in token["projected"]["sources"]
            for held in source.values()
            for path in ([held["path"]] if "path" in held else [item["path"] for item in held["items"]])
        ]
        assert sorted(paths) == ["ca.crt", "namespace", "token"]
        mount = {"name": token["name"], "mountPath": str(SERVICE_ACCOUNT), "readOnly": True}
        assert mount in container["volumeMounts"]


def test_with_dns_nobody_can_call_the_kubernetes_api() -> None:
    manifests = render(values_of("orchestrator: {discovery: dns}"))
    assert manifests.of_kind("Role") == manifests.of_kind("RoleBinding") == []
    assert not [volume for pod in manifests.pods for volume in pod.spec["volumes"] if "projected" in volume]


def test_services_of_the_namespace_do_not_become_settings(manifests: Manifests) -> None:
    """A Service `draftpool-verifier` would put DRAFTPOOL_VERIFIER_PORT=tcp://... into every pod."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in manifests.pods)


def test_no_secret_is_in_arguments_or_plain_variables(manifests: Manifests) -> None:
    secrets = [value for found in manifests.of_kind("Secret") for value in found["stringData"].values()]
    for pod in manifests.pods:
        for container in pod.containers:
            shown = [*container.get("command", ()), *container.get("args", ())]
            shown += [variable.get("value", "") for variable in container.get("env", ())]
            assert not [word for word in shown for secret in secrets if secret in word]


def test_only_the_download_sees_the_hubs_token() -> None:
    manifests = render(
        values_of("""
            hub: {tokenSecret: {name: hub-token}}
            targets: [{name: a, model: {source: hub, id: org/model}}]
        """)
    )
    seeing = [
        (pod.component, container["name"])
        for pod in manifests.pods
        for container in pod.containers
        if any(variable["name"] == "HF_TOKEN" for variable in container.get("env", ()))
    ]
    assert seeing == [("verifier", "download")]


def test_the_chart_makes_secrets_for_the_redis_of_a_trial_only(defaults: Manifests, production: Manifests) -> None:
    assert [found["metadata"]["name"] for found in defaults.of_kind("Secret")] == ["demo-draftpool-redis"]
    assert production.of_kind("Secret") == []


def test_the_trials_redis_has_a_password_that_nobody_chose() -> None:
    first, second = (render({}).named("Secret", "demo-draftpool-redis")["stringData"] for _ in range(2))
    assert len(first["password"]) == 32
    assert first["password"] != second["password"]
    assert f"requirepass {first['password']}\n" in first["redis.conf"]
    assert first["url"] == f"redis://:{first['password']}@demo-draftpool-redis:6379/0"


def test_ids_can_be_left_to_the_cluster() -> None:
    manifests = render(values_of("podSecurity: {runAsUser: null, fsGroup: null}"))
    for pod in manifests.pods:
        assert pod.spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
