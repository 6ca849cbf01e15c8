{{/* Sidecars of every node, if there is no controller. */}}
{{- define "loopcsi.sidecarContainers" -}}
{{- $values := .Values -}}
- name: provisioner
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.provisioner.image) }}
  imagePullPolicy: {{ $values.provisioner.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --node-deployment=true
    - --node-deployment-immediate-binding={{ $values.provisioner.immediateBinding }}
    - --strict-topology=true
    - --immediate-topology=false
    - --enable-capacity=true
    # The pod owns its node's CSIStorageCapacity objects, so they are deleted with the pod if the node is lost.
    - --capacity-ownerref-level=0
    - --capacity-poll-interval={{ $values.provisioner.capacityPollInterval }}
    # With the default of one per second, updates of pools that change constantly would delay the capacity of a new class.
    - --kube-api-capacity-qps=5
    - --kube-api-capacity-burst=20
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    - --extra-create-metadata=true
    - --default-fstype={{ $values.driver.defaultFsType }}
    - --timeout=120s
    {{- range $values.provisioner.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    {{- with $values.provisioner.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.sidecarRest" $values.provisioner | nindent 2 }}
{{- if include "loopcsi.snapshots" . }}
- name: snapshotter
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.snapshotter.image) }}
  imagePullPolicy: {{ $values.snapshotter.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --node-deployment=true
    - --extra-create-metadata=true
    - --timeout=120s
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    {{- range $values.snapshotter.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    {{- with $values.snapshotter.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.sidecarRest" $values.snapshotter | nindent 2 }}
{{- end }}
{{- if $values.resizer.enabled }}
- name: resizer
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.resizer.image) }}
  imagePullPolicy: {{ $values.resizer.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --leader-election=true
    - --leader-election-namespace=$(NAMESPACE)
    # Volumes in use can be expanded, so the resizer need not watch every pod in the cluster.
    - --handle-volume-inuse-error=false
    - --resize-timeout=120s
    - --modify-timeout=120s
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    {{- range $values.resizer.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    {{- with $values.resizer.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.sidecarRest" $values.resizer | nindent 2 }}
{{- end }}
{{- end }}

{{- define "loopcsi.registrarContainer" -}}
{{- $values := .Values -}}
- name: registrar
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.registrar.image) }}
  imagePullPolicy: {{ $values.registrar.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --kubelet-registration-path={{ $values.kubeletDir }}/plugins/{{ $values.driver.name }}/csi.sock
    {{- range $values.registrar.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  {{- with $values.registrar.extraEnv }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext: {{- include "loopcsi.sidecarSecurity" . | nindent 4 }}
  resources: {{- toYaml $values.registrar.resources | nindent 4 }}
  volumeMounts:
    - {name: plugin, mountPath: /csi}
    - {name: registration, mountPath: /registration}
{{- end }}

{{/* A single volume already uses up the sidecars' default of 5 requests per second. */}}
{{- define "loopcsi.apiRate" -}}
- --kube-api-qps=20
- --kube-api-burst=40
{{- end }}

{{/* Common fields of all sidecars that use the API server. Argument: the sidecar's values. */}}
{{- define "loopcsi.sidecarRest" -}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext: {{- include "loopcsi.sidecarSecurity" . | nindent 2 }}
resources: {{- toYaml .resources | nindent 2 }}
volumeMounts:
  - {name: plugin, mountPath: /csi}
  - {{- include "loopcsi.tokenMount" . | nindent 4 }}
{{- end }}

{{/* Rule for leader election. Names of new Leases cannot be limited. */}}
{{- define "loopcsi.leaseRule" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, patch, delete]
{{- end }}
