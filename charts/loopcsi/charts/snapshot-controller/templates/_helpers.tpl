{{- define "snapshot-controller.fullname" -}}
{{- printf "%s-snapshot-controller" .Release.Name | trunc 60 | trimSuffix "-" }}
{{- end }}

{{- define "snapshot-controller.selectorLabels" -}}
app.kubernetes.io/name: snapshot-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "snapshot-controller.labels" -}}
{{ include "snapshot-controller.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: loopcsi
{{- end }}

{{/* Copied from the parent chart, so that this chart does not depend on it. */}}
{{- define "snapshot-controller.image" -}}
{{- $registry := default .Values.image.registry (.Values.global).imageRegistry }}
{{- with $registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}
