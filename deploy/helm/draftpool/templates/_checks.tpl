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
{{- if gt (int .pool.autoscaling.minReplicas) (int .pool.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling of %s: minReplicas is above maxReplicas" .name) -}}
{{- end -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "draftpool/target" -}}
{{- if hasKey ($.pool.podLabels | default dict) $label -}}
{{- fail (printf "podLabels of %s: %s is how the pods are found; leave it to the chart" $.name $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
