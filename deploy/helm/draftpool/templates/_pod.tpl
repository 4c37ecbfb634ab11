{{/* The one pod of all services. Takes a workload. */}}
{{- define "draftpool.pod" -}}
serviceAccountName: {{ .name }}
automountServiceAccountToken: false
# A Service called draftpool-... would set DRAFTPOOL_... variables, which are our settings.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "draftpool.terminationSeconds" .pool.shutdown }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "draftpool.podSecurity" .root | nindent 2 }}
{{- if and .pool.model (eq (dig "source" "" (.pool.model | default dict)) "hub") }}
initContainers: {{- include "draftpool.download" . | nindent 2 }}
{{- end }}
containers: {{- include "draftpool.container" . | nindent 2 }}
volumes: {{- include "draftpool.volumes" . | nindent 2 }}
{{- include "draftpool.placement" . }}
{{- end }}

{{- define "draftpool.container" -}}
- name: {{ .component }}
  image: {{ include "draftpool.image" (dict "root" .root "image" .pool.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  {{- if eq (include "draftpool.splitsTensors" .) "true" }}
  command: [torchrun]
  args:
    - --standalone
    - --nproc-per-node={{ .pool.gpus }}
    - --shutdown-timeout={{ add .pool.shutdown.drainSeconds 5 }}
    - -m
    - draftpool
    - serve
    - {{ .component }}
    {{- with .pool.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- else }}
  command: [draftpool, serve, {{ .component }}]
  {{- with .pool.extraArgs }}
  args: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  env: {{- include "draftpool.environment" . | nindent 4 }}
  ports:
    - name: grpc
      containerPort: {{ .port }}
    {{- if .root.Values.metrics.enabled }}
    - name: metrics
      containerPort: {{ .root.Values.metrics.port }}
    {{- end }}
    {{- if dig "scaler" "enabled" false .pool }}
    - name: scaler
      containerPort: {{ .pool.scaler.port }}
    {{- end }}
  resources: {{- include "draftpool.resources" .pool | nindent 4 }}
  {{- include "draftpool.probes" . | nindent 2 }}
  {{- if .pool.shutdown.preStopSeconds }}
  lifecycle:
    preStop:
      # New requests still come until everyone has heard that the pod leaves.
      exec:
        command: [sleep, {{ .pool.shutdown.preStopSeconds | quote }}]
  {{- end }}
  securityContext: {{- include "draftpool.containerSecurity" . | nindent 4 }}
  volumeMounts: {{- include "draftpool.mounts" . | nindent 4 }}
{{- end }}

{{/* GPUs are a limit like memory, written as a number of their own. Takes a pool. */}}
{{- define "draftpool.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus -}}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict .gpuResource (int .gpus))) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* Kubernetes cannot ask over TLS, so then the image's own command does, less often for it starts a process. */}}
{{- define "draftpool.probes" -}}
{{- $tls := .root.Values.tls.enabled -}}
{{- $period := ternary 15 5 $tls -}}
startupProbe:
  {{- include "draftpool.probe" . | nindent 2 }}
  periodSeconds: {{ $period }}
  failureThreshold: {{ div (add .pool.startupSeconds $period -1) $period }}
readinessProbe:
  {{- include "draftpool.probe" . | nindent 2 }}
  periodSeconds: {{ $period }}
  failureThreshold: 2
livenessProbe:
  {{- include "draftpool.probe" . | nindent 2 }}
  periodSeconds: {{ ternary 30 10 $tls }}
  failureThreshold: 6
{{- end }}

{{- define "draftpool.probe" -}}
{{- if .root.Values.tls.enabled -}}
exec:
  command:
    - draftpool
    - health
    - --address=127.0.0.1:{{ .port }}
    - --server-name={{ ternary .root.Values.tls.orchestratorName .root.Values.tls.poolName (eq .component "orchestrator") }}
timeoutSeconds: 10
{{- else -}}
grpc:
  port: {{ .port }}
timeoutSeconds: 5
{{- end }}
{{- end }}

{{/* Pod Security Standards, "restricted". Takes the root. */}}
{{- define "draftpool.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "draftpool.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "draftpool.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if ne (include "draftpool.modelVolume" .) "" }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- if eq (include "draftpool.splitsTensors" .) "true" }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/draftpool/tls
  readOnly: true
{{- end }}
{{- if and (eq .component "orchestrator") .root.Values.apiKeys.existingSecret }}
- name: api-keys
  mountPath: /etc/draftpool/api-keys
  readOnly: true
{{- end }}
{{- if eq (include "draftpool.asksKubernetes" .) "true" }}
- name: kubernetes-api
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}
{{- with .pool.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "draftpool.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .pool.tmpSize }}
{{- with include "draftpool.modelVolume" . }}
- name: models
  {{- . | nindent 2 }}
{{- end }}
{{- if eq (include "draftpool.splitsTensors" .) "true" }}
# The processes of a target exchange tensors through it.
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: 1Gi
{{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ get .root.Values.tls.secrets .component }}
    defaultMode: 0440
{{- end }}
{{- if and (eq .component "orchestrator") .root.Values.apiKeys.existingSecret }}
- name: api-keys
  secret:
    secretName: {{ .root.Values.apiKeys.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if eq (include "draftpool.asksKubernetes" .) "true" }}
{{ include "draftpool.tokenVolume" . }}
{{- end }}
{{- with .pool.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "draftpool.asksKubernetes" -}}
{{ and (eq .component "orchestrator") (eq .root.Values.orchestrator.discovery "endpointslices") }}
{{- end }}

{{/* What automountServiceAccountToken would mount, in this pod alone. */}}
{{- define "draftpool.tokenVolume" -}}
- name: kubernetes-api
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{/* Where /models comes from; nothing for an embedded model and for the orchestrator. */}}
{{- define "draftpool.modelVolume" -}}
{{- $source := dig "model" "source" "" .pool -}}
{{- $cache := .root.Values.modelCache -}}
{{- if eq $source "volume" -}}
persistentVolumeClaim:
  claimName: {{ .pool.model.claimName }}
  readOnly: true
{{- else if and (eq $source "hub") (or $cache.create $cache.existingClaim) -}}
persistentVolumeClaim:
  claimName: {{ $cache.existingClaim | default (printf "%s-models" (include "draftpool.fullname" .root)) }}
{{- else if eq $source "hub" -}}
emptyDir:
  sizeLimit: {{ $cache.size }}
{{- end -}}
{{- end }}

{{- define "draftpool.placement" -}}
{{- $selector := include "draftpool.selector" . | fromYaml -}}
{{- with .pool.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pool.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pool.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pool.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pool.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .pool.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml (merge (dict "labelSelector" (dict "matchLabels" $selector)) .) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
