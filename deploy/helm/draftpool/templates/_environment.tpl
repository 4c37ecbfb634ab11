{{/* All settings of a service, as environment variables. Takes a workload. */}}
{{- define "draftpool.environment" -}}
{{- $prefix := printf "DRAFTPOOL_%s" (upper .component) -}}
- name: DRAFTPOOL_SERVER_LISTEN
  value: {{ printf "0.0.0.0:%d" (int .port) | quote }}
- name: DRAFTPOOL_SERVER_DRAIN_GRACE_S
  value: {{ .pool.shutdown.drainSeconds | quote }}
{{- if .root.Values.metrics.enabled }}
- name: DRAFTPOOL_SERVER_METRICS_LISTEN
  value: {{ printf "0.0.0.0:%d" (int .root.Values.metrics.port) | quote }}
{{- end }}
{{- if eq .component "orchestrator" }}
{{ include "draftpool.orchestratorEnvironment" . }}
{{- else }}
{{ include "draftpool.modelEnvironment" . }}
{{- end }}
{{- range $name, $value := .pool.settings }}
- name: {{ printf "%s_%s" $prefix (upper $name) }}
  value: {{ include "draftpool.scalar" $value | quote }}
{{- end }}
{{ include "draftpool.securityEnvironment" . }}
{{- with .pool.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Which model, under which name, on what. */}}
{{- define "draftpool.modelEnvironment" -}}
{{- $prefix := printf "DRAFTPOOL_%s" (upper .component) -}}
- name: {{ $prefix }}_MODEL
  value: {{ include "draftpool.modelLocation" .pool.model | quote }}
{{- with .pool.servedName | default .target }}
- name: {{ $prefix }}_NAME
  value: {{ . | quote }}
{{- end }}
{{- if and .pool.gpus (not (or (hasKey .pool.settings "device") (hasKey .pool.settings "device_map"))) }}
{{- if eq (include "draftpool.splitsLayers" .) "true" }}
- name: {{ $prefix }}_DEVICE_MAP
  value: auto
{{- else if ne (include "draftpool.splitsTensors" .) "true" }}
- name: {{ $prefix }}_DEVICE
  value: cuda
{{- end }}
{{- end }}
{{- if not .pool.gpus }}
# Else torch would start a thread for every core of the node.
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}
{{- end }}

{{- define "draftpool.orchestratorEnvironment" -}}
{{- $addresses := dict "drafter" list "verifier" list -}}
{{- range include "draftpool.workloads" .root | fromYamlArray -}}
{{- if ne .component "orchestrator" -}}
{{- $known := get $addresses .component -}}
{{- $_ := set $addresses .component (append $known (include "draftpool.poolAddress" (merge (dict "root" $.root) .))) -}}
{{- end -}}
{{- end -}}
- name: DRAFTPOOL_ORCHESTRATOR_VERIFIERS
  value: {{ join "," $addresses.verifier | quote }}
- name: DRAFTPOOL_ORCHESTRATOR_DRAFTERS
  value: {{ join "," $addresses.drafter | quote }}
{{- with include "draftpool.coldTargets" .root | fromYamlArray }}
- name: DRAFTPOOL_ORCHESTRATOR_COLD_TARGETS
  value: {{ join "," . | quote }}
{{- end }}
{{- if .pool.scaler.enabled }}
{{ include "draftpool.scalerEnvironment" .root }}
{{- end }}
{{- with include "draftpool.redisSecret" .root | fromYaml }}
- name: DRAFTPOOL_ORCHESTRATOR_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- if .root.Values.apiKeys.existingSecret }}
- name: DRAFTPOOL_ORCHESTRATOR_API_KEYS_FILE
  value: /etc/draftpool/api-keys/{{ .root.Values.apiKeys.key }}
{{- end }}
{{- end }}

{{/* Who this service is to others, and whom it lets in. */}}
{{- define "draftpool.securityEnvironment" -}}
{{- $tls := .root.Values.tls -}}
{{- if not $tls.enabled -}}
- name: DRAFTPOOL_SERVER_INSECURE
  value: "true"
{{- else if eq .component "orchestrator" -}}
{{ include "draftpool.certificateEnvironment" $tls.poolName }}
{{- if not (or .root.Values.apiKeys.existingSecret (hasKey .pool.settings "require_client_certificates")) }}
- name: DRAFTPOOL_ORCHESTRATOR_REQUIRE_CLIENT_CERTIFICATES
  value: "true"
{{- end }}
{{- else -}}
{{ include "draftpool.certificateEnvironment" "" }}
- name: DRAFTPOOL_SERVER_ALLOWED_CALLERS
  value: {{ $tls.orchestratorName | quote }}
{{- end }}
{{- end }}

{{/* Takes the name that called servers must carry, where it is not in their address. */}}
{{- define "draftpool.certificateEnvironment" -}}
- name: DRAFTPOOL_TLS_CERT_FILE
  value: /etc/draftpool/tls/tls.crt
- name: DRAFTPOOL_TLS_KEY_FILE
  value: /etc/draftpool/tls/tls.key
- name: DRAFTPOOL_TLS_CA_FILE
  value: /etc/draftpool/tls/ca.crt
{{- with . }}
- name: DRAFTPOOL_TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Of `helm test`, a client like any other. Takes the root. */}}
{{- define "draftpool.clientEnvironment" -}}
{{- if .Values.tls.enabled }}
{{ include "draftpool.certificateEnvironment" .Values.tls.orchestratorName }}
{{- end }}
{{- with .Values.apiKeys.testSecret }}
{{- if .name }}
- name: DRAFTPOOL_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- if not $.Values.tls.enabled }}
- name: DRAFTPOOL_CLIENT_INSECURE
  value: "true"
{{- end }}
{{- end }}
{{- end }}
{{- end }}
