{{/* What a service is told as its model. Takes a `model` of the values. */}}
{{- define "draftpool.modelLocation" -}}
{{- if eq .source "embedded" -}}{{ .id }}
{{- else if eq .source "volume" -}}/models/{{ .id }}
{{- else -}}/models/{{ include "draftpool.downloadFolder" . }}
{{- end -}}
{{- end }}

{{/* A folder for each model and revision, so that pools may share a cache. */}}
{{- define "draftpool.downloadFolder" -}}
{{ printf "%s--%s" (replace "/" "--" .id) (replace "/" "--" .revision) }}
{{- end }}

{{/* "true" where a target is cut over its GPUs. Takes a workload. */}}
{{- define "draftpool.splitsTensors" -}}
{{ and (gt (int .pool.gpus) 1) (eq .pool.parallelism "tensor") }}
{{- end }}

{{/* "true" where a target's layers are spread over its GPUs. Takes a workload. */}}
{{- define "draftpool.splitsLayers" -}}
{{ and (gt (int .pool.gpus) 1) (eq .pool.parallelism "layers") }}
{{- end }}

{{/* Fetches a model before the service starts; what is there already is not fetched again. Takes a workload. */}}
{{- define "draftpool.download" -}}
- name: download
  image: {{ include "draftpool.image" (dict "root" .root "image" .pool.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [hf, download]
  args:
    - {{ .pool.model.id | quote }}
    - --revision={{ .pool.model.revision }}
    {{- range .pool.model.exclude }}
    - --exclude={{ . }}
    {{- end }}
    - --local-dir=/models/{{ include "draftpool.downloadFolder" .pool.model }}
  env:
    # What the download keeps for itself may be large too, so it is where the models are.
    - name: HF_HOME
      value: /models/.cache
    {{- with .root.Values.hub.endpoint }}
    - name: HF_ENDPOINT
      value: {{ . | quote }}
    {{- end }}
    {{- with .root.Values.hub.tokenSecret }}
    {{- if .name }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef:
          name: {{ .name }}
          key: {{ .key }}
    {{- end }}
    {{- end }}
  resources: {{- toYaml .root.Values.hub.resources | nindent 4 }}
  securityContext: {{- include "draftpool.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: models
      mountPath: /models
{{- end }}
