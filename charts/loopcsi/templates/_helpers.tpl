{{- define "loopcsi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "loopcsi.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "loopcsi.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "loopcsi.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of the hook's objects. The name of a Job becomes a label of its pod, which is limited to 63 characters. */}}
{{- define "loopcsi.uninstallName" -}}
{{- include "loopcsi.fullname" . | trunc 53 | trimSuffix "-" }}-uninstall
{{- end }}

{{/* Labels that never change, because they are part of selectors. */}}
{{- define "loopcsi.selectorLabels" -}}
app.kubernetes.io/name: {{ include "loopcsi.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "loopcsi.labels" -}}
{{ include "loopcsi.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: loopcsi
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "loopcsi.serviceAccountName" -}}
{{- default (printf "%s-node" (include "loopcsi.fullname" .)) .Values.serviceAccount.name }}
{{- end }}

{{/* An image's full name; a digest replaces the tag. Takes (dict "root" $ "image" … "tag" default tag). */}}
{{- define "loopcsi.image" -}}
{{- $registry := default .image.registry (.root.Values.global).imageRegistry }}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .tag .image.tag }}{{ end }}
{{- end }}

{{/* Secrets of this chart and of all charts, or nothing. */}}
{{- define "loopcsi.pullSecrets" -}}
{{- with concat .Values.imagePullSecrets (default list (.Values.global).imagePullSecrets) | uniq }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Limits a node selector to Linux. Takes a node selector. */}}
{{- define "loopcsi.nodeSelector" -}}
{{- toYaml (merge (dict) (default dict .) (dict "kubernetes.io/os" "linux")) }}
{{- end }}

{{/* "true" or nothing: whether the snapshotter runs and snapshot classes are created. */}}
{{- define "loopcsi.snapshots" -}}
{{- if eq (toString .Values.snapshotter.enabled) "auto" }}
{{- if or (index .Values "snapshot-controller" "enabled") (.Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1") }}true{{ end }}
{{- else if .Values.snapshotter.enabled }}true{{ end }}
{{- end }}

{{/* One pool as the driver's --pool takes it. */}}
{{- define "loopcsi.pool" -}}
{{ .name }}={{ .path }}
{{- if .create }},create{{ end }}
{{- with .reserve }},reserve={{ . }}{{ end }}
{{- with .overcommit }},overcommit={{ . }}{{ end }}
{{- if .mountpointRequired }},mountpoint=required{{ end }}
{{- if hasKey . "guard" }},guard={{ ternary "on" "off" .guard }}{{ end }}
{{- if .force }},force{{ end }}
{{- with .reflink }},reflink={{ . }}{{ end }}
{{- end }}

{{/* Sidecars run as root, which owns the driver's socket (mode 0600), but without any of root's privileges. */}}
{{- define "loopcsi.sidecarSecurity" -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Pods of hooks and tests talk only to the API server. */}}
{{- define "loopcsi.toolSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The token for the API server is mounted only into the sidecars; the privileged driver never uses the API server. */}}
{{- define "loopcsi.tokenMount" -}}
name: api-token
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
readOnly: true
{{- end }}
