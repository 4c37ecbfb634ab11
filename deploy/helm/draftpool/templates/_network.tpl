{{/* The pods of a component of this release, as a list of one peer. */}}
{{- define "draftpool.peer" -}}
- podSelector:
    matchLabels: {{- include "draftpool.selector" . | nindent 6 }}
{{- end }}

{{- define "draftpool.dnsEgress" -}}
- ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  to: {{- toYaml .Values.networkPolicy.dns.peers | nindent 4 }}
{{- end }}

{{/* What the pods of a workload may call. Takes a workload, and all `workloads` beside it. */}}
{{- define "draftpool.egress" -}}
{{- if eq .component "orchestrator" }}
{{ include "draftpool.orchestratorEgress" . }}
{{- else if eq .pool.model.source "hub" }}
- ports:
    - port: 443
  to: {{- toYaml .root.Values.networkPolicy.hub | nindent 4 }}
{{ include "draftpool.dnsEgress" .root }}
{{- end }}
{{- with .pool.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "draftpool.orchestratorEgress" -}}
{{- range .workloads }}
{{- if ne .component "orchestrator" }}
- ports:
    - port: {{ .port }}
  to: {{- include "draftpool.peer" (merge (dict "root" $.root) .) | nindent 4 }}
{{- end }}
{{- end }}
{{- if .pool.scaler.enabled }}
- ports:
    - port: {{ .pool.scaler.port }}
  to: {{- include "draftpool.peer" (dict "root" .root "component" "orchestrator") | nindent 4 }}
{{- end }}
{{- if eq .pool.discovery "endpointslices" }}
- ports:
    {{- range .root.Values.networkPolicy.apiServer.ports }}
    - port: {{ . }}
    {{- end }}
  to: {{- toYaml .root.Values.networkPolicy.apiServer.peers | nindent 4 }}
{{- end }}
{{- if eq .root.Values.redis.mode "chart" }}
- ports:
    - port: 6379
  to: {{- include "draftpool.peer" (dict "root" .root "component" "redis") | nindent 4 }}
{{- else if eq .root.Values.redis.mode "external" }}
- ports:
    - port: {{ .root.Values.redis.external.port }}
  to: {{- toYaml .root.Values.networkPolicy.redis | nindent 4 }}
{{- end }}
{{ include "draftpool.dnsEgress" .root }}
{{- end }}
