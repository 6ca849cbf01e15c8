{{/* The groups of nodes as a JSON list: one without a name when the values have none. */}}
{{- define "loopcsi.groups" -}}
{{- if .Values.nodeGroups }}{{ toJson .Values.nodeGroups }}
{{- else }}{{ list (dict "name" "" "nodeSelector" .Values.nodeSelector "pools" .Values.pools) | toJson }}
{{- end }}
{{- end }}

{{/* The names of all pools, separated by commas. */}}
{{- define "loopcsi.poolNames" -}}
{{- $names := list }}
{{- range include "loopcsi.groups" . | fromJsonArray }}{{ range .pools }}{{ $names = append $names .name }}{{ end }}{{ end }}
{{- $names | uniq | sortAlpha | join "," }}
{{- end }}

{{/* What a schema cannot say. Refused here rather than by a pod that does not start, or an object that wins over another. */}}
{{- define "loopcsi.checks" -}}
{{- include "loopcsi.checkNames" (dict "what" "nodeGroups" "list" .Values.nodeGroups) }}
{{- include "loopcsi.checkNames" (dict "what" "storageClasses" "list" .Values.storageClasses) }}
{{- include "loopcsi.checkNames" (dict "what" "volumeSnapshotClasses" "list" .Values.volumeSnapshotClasses) }}
{{- if and .Values.podMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.from) }}
{{- fail "networkPolicy.from: empty, so the Prometheus of podMonitor reads nothing: name its namespace there" }}
{{- end }}
{{- $stateDir := .Values.stateDir }}
{{- range include "loopcsi.groups" . | fromJsonArray }}
{{- $where := "pools" }}{{ with .name }}{{ $where = printf "nodeGroups, pools of %s" . }}{{ end }}
{{- include "loopcsi.checkNames" (dict "what" $where "list" .pools) }}
{{- $pools := .pools }}
{{- range $index, $pool := $pools }}
{{- if hasPrefix (printf "%s/" $pool.path) (printf "%s/" $stateDir) }}
{{- fail (printf "stateDir: %s lies in pool '%s' (%s), whose disk it must outlive: choose a directory outside" $stateDir $pool.name $pool.path) }}
{{- end }}
{{- range $other, $second := $pools }}
{{- if and (ne $index $other) (hasPrefix (printf "%s/" $pool.path) (printf "%s/" $second.path)) }}
{{- fail (printf "%s: '%s' (%s) lies in '%s' (%s): choose separate directories" $where $second.name $second.path $pool.name $pool.path) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes (dict "what" where the list stands "list" objects with a name). */}}
{{- define "loopcsi.checkNames" -}}
{{- $seen := dict }}
{{- range .list }}
{{- if hasKey $seen .name }}{{ fail (printf "%s: two are named '%s': give each a name of its own" $.what .name) }}{{ end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end }}
