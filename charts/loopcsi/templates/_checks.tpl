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
{{- include "loopcsi.checkNames" (dict "what" "volumeGroupSnapshotClasses" "list" .Values.volumeGroupSnapshotClasses) }}
{{- if not (or .Values.pools .Values.nodeGroups) }}
{{- fail "pools is empty, but the driver needs at least one pool: remove the setting (pools=null) to get the default pool, or list pools or nodeGroups" }}
{{- end }}
{{- include "loopcsi.checkDefaults" (dict "what" "storageClasses" "list" .Values.storageClasses) }}
{{- include "loopcsi.checkDefaults" (dict "what" "volumeSnapshotClasses" "list" .Values.volumeSnapshotClasses) }}
{{- include "loopcsi.checkDefaults" (dict "what" "volumeGroupSnapshotClasses" "list" .Values.volumeGroupSnapshotClasses) }}
{{- include "loopcsi.checkClasses" . }}
{{- include "loopcsi.checkController" . }}
{{- if and .Values.hostNetwork .Values.networkPolicy.enabled }}
{{- fail "networkPolicy.enabled has no effect on pods in the network of the node: disable it or hostNetwork" }}
{{- end }}
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

{{/* Rejects lists with several default classes, of which Kubernetes would choose the newest. Arguments as above. */}}
{{- define "loopcsi.checkDefaults" -}}
{{- $defaults := list }}
{{- range .list }}{{ if .default }}{{ $defaults = append $defaults (printf "'%s'" .name) }}{{ end }}{{ end }}
{{- if gt (len $defaults) 1 }}{{ fail (printf "%s: %s are all default: choose one" .what (join ", " $defaults)) }}{{ end }}
{{- end }}

{{/* Rejects StorageClasses whose claims no node could serve, and those with two filesystems. */}}
{{- define "loopcsi.checkClasses" -}}
{{- $pools := include "loopcsi.poolNames" . | splitList "," }}
{{- range .Values.storageClasses }}
{{- $parameters := default dict .parameters }}
{{- if and $parameters.pool (not (has $parameters.pool $pools)) }}
{{- fail (printf "storageClasses: '%s' names pool '%s', but the pools are %s: name one of them, or add the pool to pools or nodeGroups" .name $parameters.pool (join ", " $pools)) }}
{{- end }}
{{- if and .fsType (hasKey $parameters "csi.storage.k8s.io/fstype") }}
{{- fail (printf "storageClasses: '%s' has fsType and csi.storage.k8s.io/fstype: omit one of them" .name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rejects values with which the controller could not start. */}}
{{- define "loopcsi.checkController" -}}
{{- $controller := .Values.controller }}
{{- if $controller.enabled }}
{{- if eq $controller.tls.mode "secrets" }}
{{- range $role := list "controller" "agent" }}
{{- if not (index $controller.tls.secrets $role) }}
{{- fail (printf "controller.tls.secrets.%s is empty, but mode is secrets: name the Secret with the certificate of the %s" $role $role) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq (int $controller.agentPort) (int .Values.driver.httpPort) }}
{{- fail (printf "controller.agentPort and driver.httpPort are both %d: choose different ports" (int $controller.agentPort)) }}
{{- end }}
{{- with $controller.snapshotMetadata }}
{{- if and .enabled (not (and .tlsSecret .caBundle)) }}
{{- fail "controller.snapshotMetadata needs tlsSecret and caBundle: clients connect to it by TLS" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
