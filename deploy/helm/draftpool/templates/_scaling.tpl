{{/* The external scaler's Service, which KEDA asks. Takes the root. */}}
{{- define "draftpool.scalerName" -}}
{{ include "draftpool.fullname" . }}-scaler
{{- end }}

{{/* The headless Service by which orchestrators ask each other. Takes the root. */}}
{{- define "draftpool.peersName" -}}
{{ include "draftpool.fullname" . }}-peers
{{- end }}

{{/* What an orchestrator's scaler listens on, and which other ones there are. Takes the root. */}}
{{- define "draftpool.scalerEnvironment" -}}
{{- $port := int .Values.orchestrator.scaler.port -}}
- name: DRAFTPOOL_ORCHESTRATOR_SCALER_LISTEN
  value: {{ printf "0.0.0.0:%d" $port | quote }}
- name: DRAFTPOOL_ORCHESTRATOR_PEERS
  value: {{ include "draftpool.poolAddress" (dict "root" . "name" (include "draftpool.peersName" .) "port" $port) | quote }}
{{- if .Values.tls.enabled }}
- name: DRAFTPOOL_ORCHESTRATOR_PEER_SERVER_NAME
  value: {{ .Values.tls.orchestratorName | quote }}
{{- end }}
{{- end }}

{{/* Names, as requests call them, of the targets that may be scaled to zero; a YAML list. Takes the root. */}}
{{- define "draftpool.coldTargets" -}}
{{- $names := list -}}
{{- range include "draftpool.workloads" . | fromYamlArray -}}
{{- if and .target (eq (include "draftpool.startsCold" .) "true") -}}
{{- $names = append $names (.pool.servedName | default .target) -}}
{{- end -}}
{{- end -}}
{{- toYaml $names -}}
{{- end }}

{{/* "true" where a pool may have no replica. Takes a workload. */}}
{{- define "draftpool.startsCold" -}}
{{ and (eq .pool.autoscaling.mode "keda") (eq (int .pool.autoscaling.minReplicas) 0) }}
{{- end }}

{{/* "true" where a pool's ScaledObject asks the orchestrators. Takes a workload. */}}
{{- define "draftpool.asksScaler" -}}
{{ and (eq .pool.autoscaling.mode "keda") (empty .pool.autoscaling.triggers) }}
{{- end }}

{{/* The pool's thresholds as a trigger of KEDA. Takes a workload. */}}
{{- define "draftpool.scalerTrigger" -}}
- type: external-push
  metadata:
    scalerAddress: {{ printf "%s.%s.svc:%d" (include "draftpool.scalerName" .root) .root.Release.Namespace (int .root.Values.orchestrator.scaler.port) }}
    {{- if .root.Values.tls.enabled }}
    enableTLS: "true"
    {{- end }}
    {{- if .target }}
    target: {{ .pool.servedName | default .target | quote }}
    {{- else }}
    pool: {{ .component }}
    {{- end }}
    {{- range $name, $value := .pool.autoscaling.thresholds }}
    {{ $name }}: {{ include "draftpool.scalar" $value | quote }}
    {{- end }}
  {{- if .root.Values.tls.enabled }}
  authenticationRef:
    name: {{ include "draftpool.scalerName" .root }}
  {{- end }}
{{- end }}

{{/* The pool's thresholds as metrics of a HorizontalPodAutoscaler: gauges of its pods. Takes a workload. */}}
{{- define "draftpool.podMetrics" -}}
{{- $gauges := dict "busyShare" "busy_share" "budgetShare" "budget_share" "queueMs" "recent_queue_seconds" -}}
{{- range $name, $value := .pool.autoscaling.thresholds }}
- type: Pods
  pods:
    metric:
      name: {{ printf "draftpool_%s_%s" $.component (get $gauges $name) }}
    target:
      type: AverageValue
      {{- /* Thousandths: of a share, and a millisecond of a second. */}}
      averageValue: {{ if eq $name "queueMs" }}{{ int $value }}{{ else }}{{ round (mulf $value 1000) 0 | int }}{{ end }}m
{{- end }}
{{- end }}
