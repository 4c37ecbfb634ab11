"""The processes that the chart would start, started as it says: they find each other, say `helm test` a sentence, and
answer what KEDA would ask."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from draftpool.keda import externalscaler_pb2, externalscaler_pb2_grpc
from tests.deploy.chart import Object, Pod, environment, render, values_of

VALUES = """
targets:
  - name: small
    servedName: Small-1
    model: {id: tiny-llama}
    settings: {kv_bytes: 67108864, max_sessions: 4}
    autoscaling: {mode: keda, minReplicas: 0}
drafter: {shutdown: {drainSeconds: 5}, autoscaling: {mode: keda}}
orchestrator: {discovery: dns, scaler: {enabled: true}}
"""
START_TIMEOUT_S = 200.0


def _command(container: Object) -> list[str]:
    """Through this interpreter, for `draftpool` need not be on the path."""
    program, *words = container["command"]
    assert program == "draftpool"
    return [sys.executable, "-m", program, *words, *container.get("args", ())]


@contextmanager
def _started(pod: Pod, folder: Path, other_variables: Mapping[str, str]) -> Iterator[str]:
    """The pod's service on loopback; its port. It is told to end as Kubernetes would, and has to end well."""
    address_file = folder / pod.component
    variables = {
        **os.environ,
        **environment(pod.containers[0]),
        "DRAFTPOOL_SERVER_LISTEN": "127.0.0.1:0",
        "DRAFTPOOL_SERVER_METRICS_LISTEN": "127.0.0.1:0",
        "DRAFTPOOL_SERVER_ADDRESS_FILE": str(address_file),
        "OMP_NUM_THREADS": "1",
        **other_variables,
    }
    with subprocess.Popen(_command(pod.containers[0]), env=variables) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not address_file.exists():
                assert process.poll() is None, f"the {pod.component} has ended"
                assert time.monotonic() < deadline, f"the {pod.component} does not answer"
                time.sleep(0.1)
            yield address_file.read_text().rpartition(":")[2]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(pod.spec["terminationGracePeriodSeconds"]) == 0


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _metrics_told_to_keda(scaler: str, scaled: Object) -> list[str]:
    """For the one trigger of a ScaledObject."""
    (trigger,) = scaled["spec"]["triggers"]
    with grpc.insecure_channel(scaler) as channel:
        stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        reference = externalscaler_pb2.ScaledObjectRef(scaler_metadata=trigger["metadata"])
        return [spec.metric_name for spec in stub.GetMetricSpec(reference, timeout=60).metric_specs]


def test_what_the_chart_starts_answers_what_helm_test_and_keda_ask(tmp_path: Path) -> None:
    manifests = render(values_of(VALUES))
    scaler = f"127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        ports = {
            component: stack.enter_context(_started(manifests.pod(f"demo-draftpool-{name}"), tmp_path, {}))
            for component, name in (("drafter", "drafter"), ("verifier", "verifier-small"))
        }
        addresses = {
            f"DRAFTPOOL_ORCHESTRATOR_{component.upper()}S": f"dns:///localhost:{port}"
            for component, port in ports.items()
        }
        addresses["DRAFTPOOL_ORCHESTRATOR_SCALER_LISTEN"] = scaler
        orchestrator = manifests.pod("demo-draftpool-orchestrator")
        port = stack.enter_context(_started(orchestrator, tmp_path, addresses))

        command = _command(manifests.pod("demo-draftpool-test").containers[0])
        asked = [word.replace("demo-draftpool-orchestrator:50050", f"127.0.0.1:{port}") for word in command]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
        told = {
            scaled["metadata"]["name"]: _metrics_told_to_keda(scaler, scaled)
            for scaled in manifests.of_kind("ScaledObject")
        }

    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.split()) > 3
    assert told == {
        "demo-draftpool-drafter": ["draftpool-drafter-busy-share", "draftpool-drafter-queue-ms"],
        "demo-draftpool-verifier-small": ["draftpool-verifier-budget-share", "draftpool-verifier-queue-ms"],
    }
