{{/* Node groups as a JSON list. If the values define none, the list has a single group without a name. */}}
{{- define "loopcsi.groups" -}}
{{- if .Values.nodeGroups }}{{ toJson .Values.nodeGroups }}
{{- else }}{{ list (dict "name" "" "nodeSelector" .Values.nodeSelector "pools" .Values.pools) | toJson }}
{{- end }}
{{- end }}

{{/* Names of all pools, separated by commas. */}}
{{- define "loopcsi.poolNames" -}}
{{- $names := list }}
{{- range include "loopcsi.groups" . | fromJsonArray }}{{ range .pools }}{{ $names = append $names .name }}{{ end }}{{ end }}
{{- $names | uniq | sortAlpha | join "," }}
{{- end }}

{{/* Rejects values that the schema cannot: with them, a pod would not start, or one object would overwrite another. */}}
{{- define "loopcsi.checks" -}}
{{- include "loopcsi.checkNames" (dict "what" "nodeGroups" "list" .Values.nodeGroups) }}
{{- include "loopcsi.checkNames" (dict "what" "storageClasses" "list" .Values.storageClasses) }}
{{- include "loopcsi.checkNames" (dict "what" "volumeSnapshotClasses" "list" .Values.volumeSnapshotClasses) }}
{{- if and .Values.podMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.from) }}
{{- fail "networkPolicy.from is empty, so Prometheus cannot reach the driver although podMonitor is enabled: add its namespace" }}
{{- end }}
{{- $stateDir := .Values.stateDir }}
{{- range include "loopcsi.groups" . | fromJsonArray }}
{{- $where := "pools" }}{{ with .name }}{{ $where = printf "nodeGroups, pools of %s" . }}{{ end }}
{{- include "loopcsi.checkNames" (dict "what" $where "list" .pools) }}
{{- $pools := .pools }}
{{- range $index, $pool := $pools }}
{{- if hasPrefix (printf "%s/" $pool.path) (printf "%s/" $stateDir) }}
{{- fail (printf "stateDir: %s is in pool '%s' (%s), whose disk it must outlive: choose a directory outside the pool" $stateDir $pool.name $pool.path) }}
{{- end }}
{{- range $other, $second := $pools }}
{{- if and (ne $index $other) (hasPrefix (printf "%s/" $pool.path) (printf "%s/" $second.path)) }}
{{- fail (printf "%s: '%s' (%s) is inside '%s' (%s): choose separate directories" $where $second.name $second.path $pool.name $pool.path) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rejects lists with duplicate names. Arguments: (dict "what" path of the list in the values, "list" objects with a name). */}}
{{- define "loopcsi.checkNames" -}}
{{- $seen := dict }}
{{- range .list }}
{{- if hasKey $seen .name }}{{ fail (printf "%s: two entries are named '%s': choose unique names" $.what .name) }}{{ end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end }}
