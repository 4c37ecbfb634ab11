"""The processes that the chart would start, started as it says: they find each other and say `helm test` a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.deploy.chart import Object, Pod, environment, render, values_of

VALUES = """
targets: [{name: small, servedName: Small-1, model: {id: tiny-llama}, settings: {kv_bytes: 67108864, max_sessions: 4}}]
drafter: {shutdown: {drainSeconds: 5}}
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


def test_what_the_chart_starts_answers_what_helm_test_asks(tmp_path: Path) -> None:
    manifests = render(values_of(VALUES))
    with ExitStack() as stack:
        ports = {
            component: stack.enter_context(_started(manifests.pod(f"demo-draftpool-{name}"), tmp_path, {}))
            for component, name in (("drafter", "drafter"), ("verifier", "verifier-small"))
        }
        addresses = {
            f"DRAFTPOOL_ORCHESTRATOR_{component.upper()}S": f"dns:///localhost:{port}"
            for component, port in ports.items()
        }
        orchestrator = manifests.pod("demo-draftpool-orchestrator")
        port = stack.enter_context(_started(orchestrator, tmp_path, addresses))

        command = _command(manifests.pod("demo-draftpool-test").containers[0])
        asked = [word.replace("demo-draftpool-orchestrator:50050", f"127.0.0.1:{port}") for word in command]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)

    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.split()) > 3
