{{/*
What runs, as a YAML list; the templates of each kind of object go through it. A workload has

  component   drafter, verifier or orchestrator: the subcommand of `draftpool serve`
  target      of a verifier, the name of its entry in `targets`
  name        of its Deployment, its Service and all its other objects
  port        that it listens on for gRPC
  pool        its values; for a verifier, those of `verifier` with its own entry over them
*/}}
{{- define "draftpool.workloads" -}}
{{- $full := include "draftpool.fullname" . -}}
{{- $workloads := list -}}
{{- if .Values.drafter.enabled -}}
{{- $workloads = append $workloads (dict "component" "drafter" "name" (printf "%s-drafter" $full) "port" 50051 "pool" .Values.drafter) -}}
{{- end -}}
{{- range .Values.targets -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.verifier) . -}}
{{- $workloads = append $workloads (dict "component" "verifier" "target" .name "name" (printf "%s-verifier-%s" $full .name) "port" 50052 "pool" $pool) -}}
{{- end -}}
{{- $workloads = append $workloads (dict "component" "orchestrator" "name" (printf "%s-orchestrator" $full) "port" 50050 "pool" .Values.orchestrator) -}}
{{- include "draftpool.check" (dict "root" $ "workloads" $workloads) -}}
{{- toYaml $workloads -}}
{{- end }}

{{/* Where the pods behind a headless Service are found, as orchestrators are told. Takes the root, a `name` and a `port`. */}}
{{- define "draftpool.poolAddress" -}}
{{- if eq .root.Values.orchestrator.discovery "endpointslices" -}}
{{ printf "kubernetes:///%s:%d" .name (int .port) }}
{{- else -}}
{{ printf "dns:///%s.%s.svc:%d" .name .root.Release.Namespace (int .port) }}
{{- end -}}
{{- end }}

{{/* How long a pod may take to end, in seconds: the wait before SIGTERM, the drain, and time to leave. */}}
{{- define "draftpool.terminationSeconds" -}}
{{ add .preStopSeconds .drainSeconds 15 }}
{{- end }}
