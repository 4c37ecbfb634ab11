"""Values that make no sense are refused before anything is installed, in words that say where and why."""

from __future__ import annotations

import helm_python
import pytest

from tests.deploy.chart import render, values_of

REFUSALS = {
    "a misspelt key": ("drafter: {replica: 2}", "at '/drafter': additional properties 'replica' not allowed"),
    "a misspelt key at the top": ("drafters: {}", "additional properties 'drafters' not allowed"),
    "a misspelt key of a target": (
        "targets: [{name: a, modell: {}, model: {id: tiny-llama}}]",
        "at '/targets/0': additional properties 'modell' not allowed",
    ),
    "a misspelt setting": (
        "verifier: {settings: {max_session: 3}}",
        "at '/verifier/settings': additional properties 'max_session' not allowed",
    ),
    "a setting of another service": (
        "targets: [{name: a, model: {id: tiny-llama}, settings: {state_memory_mib: 3}}]",
        "at '/targets/0/settings': additional properties 'state_memory_mib' not allowed",
    ),
    "a setting out of its range": ("drafter: {settings: {max_sessions: 0}}", "at '/drafter/settings/max_sessions'"),
    "a setting of the wrong type": ("verifier: {settings: {max_sessions: many}}", "got string, want integer"),
    "a choice that there is not": ("verifier: {settings: {dtype: int3}}", "at '/verifier/settings/dtype'"),
    "a secret among the settings": (
        "orchestrator: {settings: {redis_url: 'redis://:secret@host'}}",
        "additional properties 'redis_url' not allowed",
    ),
    "a wrong type": ("drafter: {replicas: two}", "at '/drafter/replicas': got string, want integer"),
    "a negative number": ("drafter: {replicas: -1}", "at '/drafter/replicas': minimum: got -1, want 0"),
    "no orchestrator": ("orchestrator: {replicas: 0}", "at '/orchestrator/replicas': minimum: got 0, want 1"),
    "no target": ("targets: []", "at '/targets': minItems: got 0, want 1"),
    "a target without a name": ("targets: [{model: {id: tiny-llama}}]", "at '/targets/0': missing property 'name'"),
    "a target without a model": ("targets: [{name: a}]", "at '/targets/0': missing property 'model'"),
    "a name that no object may have": (
        "targets: [{name: Llama_3, model: {id: tiny-llama}}]",
        "at '/targets/0/name': 'Llama_3' does not match pattern",
    ),
    "two targets of one name": (
        "targets: [{name: a, model: {id: tiny-llama}}, {name: a, model: {id: tiny-neox}}]",
        'targets: two of them have the name "a"',
    ),
    "a name that becomes too long": (
        f"{{fullnameOverride: {'x' * 40}, targets: [{{name: {'y' * 40}, model: {{id: tiny-llama}}}}]}}",
        "longer than 63 characters",
    ),
    "an embedded model that there is not": (
        "targets: [{name: a, model: {id: Qwen/Qwen3-8B}}]",
        'no embedded model is called "Qwen/Qwen3-8B"; for a model from elsewhere set source to hub or volume',
    ),
    "a hub id without an owner": (
        "targets: [{name: a, model: {source: hub, id: llama}}]",
        "at '/targets/0/model/id': 'llama' does not match pattern",
    ),
    "a volume without a claim": (
        "targets: [{name: a, model: {source: volume, id: llama}}]",
        "at '/targets/0/model': missing property 'claimName'",
    ),
    "a drafter cut over several GPUs": ("drafter: {gpus: 2}", "at '/drafter/gpus': maximum: got 2, want 1"),
    "no memory limit": ("drafter: {resources: {limits: {memory: null}}}", "missing property 'memory'"),
    "an amount that is none": ("drafter: {resources: {limits: {memory: lots}}}", "'lots' does not match pattern"),
    "an image that changes": ("image: {tag: latest}", "name a version"),
    "an image of a pool that changes": ("drafter: {image: {tag: latest}}", "name a version"),
    "a Redis that changes": ("redis: {chart: {image: 'redis:latest'}}", "name a version"),
    "a digest that is none": ("drafter: {image: {digest: abc}}", "at '/drafter/image/digest'"),
    "TLS without certificates": ("tls: {enabled: true}", "at '/tls/secrets/verifier': minLength: got 0, want 1"),
    "TLS between services that do not know each other's names": (
        "tls: {enabled: true, secrets: {orchestrator: o, drafter: d, verifier: v, client: c}}",
        "at '/tls/poolName': minLength: got 0, want 1",
    ),
    "an external Redis without a URL": ("redis: {mode: external}", "at '/redis/external/existingSecret': minLength"),
    "an autoscaler down to nothing": (
        "drafter: {autoscaling: {mode: hpa, minReplicas: 0}}",
        "at '/drafter/autoscaling/minReplicas': minimum: got 0, want 1",
    ),
    "an autoscaler upside down": (
        "drafter: {autoscaling: {mode: hpa, minReplicas: 5, maxReplicas: 2}}",
        "minReplicas is above maxReplicas",
    ),
    "an autoscaler down to nothing, in two places": (
        "{verifier: {autoscaling: {mode: hpa}}, "
        "targets: [{name: a, model: {id: tiny-llama}, autoscaling: {minReplicas: 0}}]}",
        "autoscaling of demo-draftpool-verifier-a: only KEDA scales to zero",
    ),
    "nothing at all, by hand": ("drafter: {autoscaling: {minReplicas: 0}}", "only KEDA scales to zero"),
    "no orchestrator at times": (
        "orchestrator: {autoscaling: {mode: keda, minReplicas: 0, triggers: [{type: cpu, metadata: {value: '60'}}]}}",
        "at '/orchestrator/autoscaling/minReplicas': minimum: got 0, want 1",
    ),
    "KEDA without a scaler that it could ask": (
        "drafter: {autoscaling: {mode: keda}}",
        "set orchestrator.scaler.enabled, or give triggers of your own",
    ),
    "KEDA for a target without a scaler that it could ask": (
        "targets: [{name: a, model: {id: tiny-llama}, autoscaling: {mode: keda}}]",
        "autoscaling of demo-draftpool-verifier-a: KEDA asks the orchestrators",
    ),
    "orchestrators scaled by what the scaler does not know": (
        "orchestrator: {scaler: {enabled: true}, autoscaling: {mode: keda}}",
        "at '/orchestrator/autoscaling/triggers': minItems: got 0, want 1",
    ),
    "orchestrators scaled by nothing": (
        "orchestrator: {autoscaling: {mode: hpa, metrics: []}}",
        "at '/orchestrator/autoscaling/metrics': minItems: got 0, want 1",
    ),
    "a misspelt threshold": (
        "verifier: {autoscaling: {thresholds: {budgetshare: 0.5}}}",
        "at '/verifier/autoscaling/thresholds': additional properties 'budgetshare' not allowed",
    ),
    "a threshold of another pool": (
        "drafter: {autoscaling: {thresholds: {budgetShare: 0.5}}}",
        "at '/drafter/autoscaling/thresholds': additional properties 'budgetShare' not allowed",
    ),
    "thresholds of the orchestrators": (
        "orchestrator: {autoscaling: {thresholds: {busyShare: 0.5}}}",
        "at '/orchestrator/autoscaling': additional properties 'thresholds' not allowed",
    ),
    "a share in percent": (
        "drafter: {autoscaling: {thresholds: {busyShare: 70}}}",
        "at '/drafter/autoscaling/thresholds/busyShare': maximum: got 70, want 1",
    ),
    "a share that is always exceeded": (
        "drafter: {autoscaling: {thresholds: {busyShare: 0}}}",
        "at '/drafter/autoscaling/thresholds/busyShare': minimum: got 0, want 0.01",
    ),
    "a wait of nothing": (
        "drafter: {autoscaling: {thresholds: {queueMs: 0}}}",
        "at '/drafter/autoscaling/thresholds/queueMs': minimum: got 0, want 1",
    ),
    "requests as a metric of pods": (
        "verifier: {autoscaling: {mode: hpa, thresholds: {requests: 8}}}",
        "thresholds.requests is known to the scaler alone",
    ),
    "a scaler on the public port": (
        "orchestrator: {scaler: {enabled: true, port: 50050}}",
        "orchestrator.scaler.port: the orchestrator listens on 50050 already",
    ),
    "a scaler on the port of the metrics": (
        "orchestrator: {scaler: {enabled: true, port: 9090}}",
        "orchestrator.scaler.port: the orchestrator listens on 9090 already",
    ),
    "a scaler with TLS that KEDA has no certificate for": (
        "{orchestrator: {scaler: {enabled: true}}, tls: {enabled: true, poolName: p, orchestratorName: o, "
        "secrets: {orchestrator: o, drafter: d, verifier: v, client: c}}}",
        "tls.secrets.keda: with TLS the scaler asks KEDA for a certificate",
    ),
    "a scaler's address besides the chart's": (
        "orchestrator: {settings: {scaler_listen: '0.0.0.0:1'}}",
        "additional properties 'scaler_listen' not allowed",
    ),
    "a served name that would be two": (
        "targets: [{name: a, servedName: 'a,b', model: {id: tiny-llama}}]",
        "at '/targets/0/servedName': 'a,b' does not match pattern",
    ),
    "a way out to everywhere": (
        "networkPolicy: {apiServer: {peers: []}}",
        "at '/networkPolicy/apiServer/peers': minItems: got 0, want 1",
    ),
    "a way out to everywhere for Redis": (
        "redis: {mode: external, external: {existingSecret: redis}}",
        "networkPolicy.redis: say where the external Redis is",
    ),
    "a rollout that cannot proceed": ("drafter: {rollingUpdate: {maxSurge: 0}}", "no pod could ever be replaced"),
    "a port twice": ("metrics: {port: 50051}", "metrics.port: the drafter listens on 50051 already"),
    "a monitor of metrics that nobody serves": (
        "metrics: {enabled: false, podMonitor: {enabled: true}}",
        "at '/metrics/podMonitor/enabled'",
    ),
    "a route from nowhere": (
        "orchestrator: {grpcRoute: {enabled: true}}",
        "at '/orchestrator/grpcRoute/parentRefs': minItems: got 0, want 1",
    ),
    "an ingress for nobody": (
        "orchestrator: {ingress: {enabled: true}}",
        "at '/orchestrator/ingress/hosts': minItems: got 0, want 1",
    ),
    "root": ("podSecurity: {runAsUser: 0}", "at '/podSecurity/runAsUser': minimum: got 0, want 1"),
    "a label that the chart finds its pods by": (
        "drafter: {podLabels: {app.kubernetes.io/component: verifier}}",
        "leave it to the chart",
    ),
    "a discovery that there is not": ("orchestrator: {discovery: consul}", "at '/orchestrator/discovery'"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_helm_refuses(kind: str) -> None:
    values, explanation = REFUSALS[kind]
    with pytest.raises(helm_python.HelmError) as refusal:
        render(values_of(values))
    assert explanation in str(refusal.value)
