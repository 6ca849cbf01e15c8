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

{{/* Name of the uninstall hook's objects. The Job's name becomes a label of its pod, and labels are limited to 63 characters. */}}
{{- define "loopcsi.uninstallName" -}}
{{- include "loopcsi.fullname" . | trunc 53 | trimSuffix "-" }}-uninstall
{{- end }}

{{/* Labels for selectors, which are immutable: these labels must never change. */}}
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
{{- $default := ternary (printf "%s-node" (include "loopcsi.fullname" .)) "default" .Values.serviceAccount.create }}
{{- default $default .Values.serviceAccount.name }}
{{- end }}

{{/* Full name of an image; a digest replaces the tag. Arguments: (dict "root" $ "image" … "tag" default tag). */}}
{{- define "loopcsi.image" -}}
{{- $registry := default .image.registry (.root.Values.global).imageRegistry }}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}
{{- else }}:{{ required (printf "the image %s has neither a tag nor a digest: set one of them" .image.repository) (default .tag .image.tag) }}
{{- end }}
{{- end }}

{{/* Pull secrets of this chart and those in `global`, or nothing. */}}
{{- define "loopcsi.pullSecrets" -}}
{{- with concat .Values.imagePullSecrets (default list (.Values.global).imagePullSecrets) | uniq }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Adds Linux to a node selector. Argument: the node selector. */}}
{{- define "loopcsi.nodeSelector" -}}
{{- toYaml (merge (dict) (default dict .) (dict "kubernetes.io/os" "linux")) }}
{{- end }}

{{/* "true" if the snapshotter runs and snapshot classes are created, otherwise nothing. */}}
{{- define "loopcsi.snapshots" -}}
{{- if eq (toString .Values.snapshotter.enabled) "auto" }}
{{- if or (index .Values "snapshot-controller" "enabled") (.Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1") }}true{{ end }}
{{- else if .Values.snapshotter.enabled }}true{{ end }}
{{- end }}

{{/*
"true" if classes of group snapshots are created, otherwise nothing. The CRDs of the subchart exist after an installation, but not after
an upgrade from a version of the chart without them, because Helm upgrades no CRDs.
*/}}
{{- define "loopcsi.groupSnapshots" -}}
{{- $hasCrds := .Capabilities.APIVersions.Has "groupsnapshot.storage.k8s.io/v1" }}
{{- $installs := and (index .Values "snapshot-controller" "enabled") .Release.IsInstall }}
{{- if and .Values.controller.enabled (include "loopcsi.snapshots" .) (or $hasCrds $installs) }}true{{ end }}
{{- end }}

{{/* "true" if pods of the priority class need a ResourceQuota in this namespace, otherwise nothing. */}}
{{- define "loopcsi.priorityClassQuota" -}}
{{- if eq (toString .Values.priorityClassQuota.enabled) "auto" }}
{{- $isCritical := has .Values.priorityClassName (list "system-node-critical" "system-cluster-critical") }}
{{- if and $isCritical (contains "-gke." .Capabilities.KubeVersion.Version) (ne .Release.Namespace "kube-system") }}true{{ end }}
{{- else if and .Values.priorityClassQuota.enabled .Values.priorityClassName }}true{{ end }}
{{- end }}

{{/* A parameter of a class as the driver reads it: YAML turns the words yes, no, on and off into booleans. */}}
{{- define "loopcsi.parameter" -}}
{{- if kindIs "bool" .value }}
{{- if eq .key "freeze" }}{{ ternary "yes" "no" .value | quote }}
{{- else if eq .key "trim" }}{{ ternary "on" "off" .value | quote }}
{{- else }}{{ .value | quote }}{{ end }}
{{- else }}{{ .value | quote }}{{ end }}
{{- end }}

{{/* Value of --pool for one pool. */}}
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

{{/* Sidecars run as root, because it owns the driver's socket (mode 0600), but without capabilities. */}}
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

{{/* Security context for pods of hooks and tests, which need neither root nor the driver's socket. */}}
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

{{/* Mount of the API server's token, for sidecars only: the privileged driver never calls the API server. */}}
{{- define "loopcsi.tokenMount" -}}
name: api-token
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
readOnly: true
{{- end }}

{{/* Service account of the sidecars: the controller's if it is enabled, otherwise that of the nodes. */}}
{{- define "loopcsi.sidecarAccountName" -}}
{{- if .Values.controller.enabled }}{{ include "loopcsi.controllerAccountName" . }}{{ else }}{{ include "loopcsi.serviceAccountName" . }}{{ end }}
{{- end }}

{{- define "loopcsi.controllerAccountName" -}}
{{- $default := ternary (include "loopcsi.controllerName" .) "default" .Values.controller.serviceAccount.create }}
{{- default $default .Values.controller.serviceAccount.name }}
{{- end }}

{{/* Name of the controller's objects, and prefix of the Secrets in mode self. The longest suffix, -controller-tls, must fit into 63 characters. */}}
{{- define "loopcsi.controllerPrefix" -}}
{{- include "loopcsi.fullname" . | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "loopcsi.controllerName" -}}
{{- include "loopcsi.controllerPrefix" . }}-controller
{{- end }}

{{/* Name of the headless Service by which the controller finds the drivers of the nodes. */}}
{{- define "loopcsi.agentsName" -}}
{{- include "loopcsi.controllerPrefix" . }}-agents
{{- end }}

{{/* Name of the Secret with the certificate of a role. Arguments: (dict "root" $ "role" "controller" or "agent"). cert-manager gets
its own names, because the type of an existing Secret cannot be changed. */}}
{{- define "loopcsi.tlsSecret" -}}
{{- $tls := .root.Values.controller.tls }}
{{- if eq $tls.mode "secrets" }}{{ index $tls.secrets .role }}
{{- else }}{{ include "loopcsi.controllerPrefix" .root }}-{{ .role }}{{ if eq $tls.mode "self" }}-tls{{ else }}-cert{{ end }}
{{- end }}
{{- end }}

{{/* Volume with the API server's token, for tokenMount. */}}
{{- define "loopcsi.tokenVolume" -}}
- name: api-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}
