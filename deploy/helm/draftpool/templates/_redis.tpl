{{/* The Secret that holds the URL, as `name` and `key`; nothing where Redis is not used. Takes the root. */}}
{{- define "draftpool.redisSecret" -}}
{{- if eq .Values.redis.mode "chart" -}}
name: {{ include "draftpool.fullname" . }}-redis
key: url
{{- else if eq .Values.redis.mode "external" -}}
name: {{ .Values.redis.external.existingSecret }}
key: {{ .Values.redis.external.key }}
{{- end -}}
{{- end }}

{{/*
The password of the chart's own Redis: the one that is there, else a random one, the same throughout one rendering.
Without a cluster to look in (`helm template`, most GitOps tools) it is a new one each time, and the pods that use it
are restarted. Takes the root.
*/}}
{{- define "draftpool.redisPassword" -}}
{{- if not (hasKey .Release "draftpoolRedisPassword") -}}
{{- $name := printf "%s-redis" (include "draftpool.fullname" .) -}}
{{- $there := dig "data" "password" "" (lookup "v1" "Secret" .Release.Namespace $name) -}}
{{- $_ := set .Release "draftpoolRedisPassword" (ternary (randAlphaNum 32) ($there | b64dec) (empty $there)) -}}
{{- end -}}
{{ .Release.draftpoolRedisPassword }}
{{- end }}
