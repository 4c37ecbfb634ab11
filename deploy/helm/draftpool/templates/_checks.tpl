{{/* What a schema cannot say, or says so that nobody understands it. */}}
{{- define "draftpool.check" -}}
{{- $names := dict -}}
{{- range .workloads -}}
{{- if hasKey $names .name -}}
{{- fail (printf "targets: two of them have the name %q" .target) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- if gt (len .name) 63 -}}
{{- fail (printf "the name %q is longer than 63 characters: shorten the release's name (or fullnameOverride) or the target's" .name) -}}
{{- end -}}
{{- if eq (int .port) (int $.root.Values.metrics.port) -}}
{{- fail (printf "metrics.port: the %s listens on %d already" .component (int .port)) -}}
{{- end -}}
{{- include "draftpool.checkPool" . -}}
{{- include "draftpool.checkAutoscaling" (merge (dict "root" $.root) .) -}}
{{- end -}}
{{- include "draftpool.checkScaler" .root -}}
{{- if and .root.Values.networkPolicy.enabled (eq .root.Values.redis.mode "external") (empty .root.Values.networkPolicy.redis) -}}
{{- fail "networkPolicy.redis: say where the external Redis is; an empty list would let orchestrators out to everywhere" -}}
{{- end -}}
{{- if eq $.root.Values.image.tag "latest" -}}
{{- fail "image.tag: `latest` is a different image every day; name a version" -}}
{{- end -}}
{{- if hasSuffix ":latest" $.root.Values.redis.chart.image -}}
{{- fail "redis.chart.image: `latest` is a different image every day; name a version" -}}
{{- end -}}
{{- end -}}

{{/* Takes a workload. */}}
{{- define "draftpool.checkPool" -}}
{{- if eq (toString .pool.image.tag) "latest" -}}
{{- fail (printf "image.tag of %s: `latest` is a different image every day; name a version" .name) -}}
{{- end -}}
{{- with .pool.model -}}
{{- if and (eq .source "embedded") (not (has .id (list "tiny-llama" "tiny-neox" "tiny-mamba-drafter"))) -}}
{{- fail (printf "model of %s: no embedded model is called %q; for a model from elsewhere set source to hub or volume" $.name .id) -}}
{{- end -}}
{{- end -}}
{{- $update := .pool.rollingUpdate -}}
{{- if and (has (toString $update.maxSurge) (list "0" "0%")) (has (toString $update.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "rollingUpdate of %s: maxSurge and maxUnavailable are both 0, so no pod could ever be replaced" .name) -}}
{{- end -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "draftpool/target" -}}
{{- if hasKey ($.pool.podLabels | default dict) $label -}}
{{- fail (printf "podLabels of %s: %s is how the pods are found; leave it to the chart" $.name $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A target's entry is merged over what all targets have, so both have to make sense together. Takes a workload with the root. */}}
{{- define "draftpool.checkAutoscaling" -}}
{{- $scaling := .pool.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling of %s: minReplicas is above maxReplicas" .name) -}}
{{- end -}}
{{- if and (eq (int $scaling.minReplicas) 0) (ne $scaling.mode "keda") -}}
{{- fail (printf "autoscaling of %s: only KEDA scales to zero; set mode to keda or minReplicas to 1" .name) -}}
{{- end -}}
{{- if and (eq $scaling.mode "hpa") (empty $scaling.metrics) (dig "thresholds" "requests" "" $scaling) -}}
{{- fail (printf "autoscaling of %s: thresholds.requests is known to the scaler alone; set mode to keda or leave it out" .name) -}}
{{- end -}}
{{- if and (eq (include "draftpool.asksScaler" .) "true") (not .root.Values.orchestrator.scaler.enabled) -}}
{{- fail (printf "autoscaling of %s: KEDA asks the orchestrators; set orchestrator.scaler.enabled, or give triggers of your own" .name) -}}
{{- end -}}
{{- end -}}

{{/* Takes the root. */}}
{{- define "draftpool.checkScaler" -}}
{{- $scaler := .Values.orchestrator.scaler -}}
{{- if and $scaler.enabled (has (int $scaler.port) (list 50050 (int .Values.metrics.port))) -}}
{{- fail (printf "orchestrator.scaler.port: the orchestrator listens on %d already" (int $scaler.port)) -}}
{{- end -}}
{{- if and $scaler.enabled .Values.tls.enabled (empty .Values.tls.secrets.keda) -}}
{{- fail "tls.secrets.keda: with TLS the scaler asks KEDA for a certificate; name the Secret that has it" -}}
{{- end -}}
{{- end -}}
