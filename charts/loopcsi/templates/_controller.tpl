{{- define "loopcsi.controllerContainer" -}}
{{- $controller := .Values.controller -}}
- name: controller
  image: {{ include "loopcsi.image" (dict "root" . "image" .Values.image "tag" .Chart.AppVersion) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - controller
    - --endpoint=unix:///csi/csi.sock
    - --driver-name={{ .Values.driver.name }}
    - --agents=endpointslices://{{ .Release.Namespace }}/{{ include "loopcsi.agentsName" . }}
    - --tls-dir=/tls
    {{- if eq $controller.tls.mode "self" }}
    - --manage-certificates={{ .Release.Namespace }}/{{ include "loopcsi.controllerPrefix" . }}
    {{- end }}
    - --node-records=configmap://{{ .Release.Namespace }}/{{ include "loopcsi.controllerPrefix" . }}-nodes
    {{- with $controller.nodeLoss }}
    - --node-loss-policy={{ .policy }}
    - --forget-deleted-nodes-after={{ .afterNodeDeleted }}
    {{- if .events }}
    - --claim-events
    {{- end }}
    {{- end }}
    - --http-address=[$(POD_IP)]:{{ $controller.httpPort }}
    - --log-level={{ $controller.logLevel }}
    {{- range $controller.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    # The command line in this container (`kubectl exec`) uses this endpoint.
    - {name: LOOPCSI_ENDPOINT, value: unix:///csi/csi.sock}
    {{- with $controller.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  ports:
    - {name: metrics, containerPort: {{ $controller.httpPort }}}
  terminationMessagePolicy: FallbackToLogsOnError
  livenessProbe:
    httpGet: {path: /healthz, port: metrics}
    initialDelaySeconds: 10
    periodSeconds: 10
    timeoutSeconds: 3
    failureThreshold: 5
  readinessProbe:
    httpGet: {path: /readyz, port: metrics}
    initialDelaySeconds: 2
    periodSeconds: 10
    timeoutSeconds: 5
  securityContext: {{- include "loopcsi.centralSecurity" . | nindent 4 }}
  resources: {{- toYaml $controller.resources | nindent 4 }}
  volumeMounts:
    - {name: plugin, mountPath: /csi}
    - {name: tmp, mountPath: /tmp}
    - {name: tls, mountPath: /tls, readOnly: true}
    - {{- include "loopcsi.tokenMount" . | nindent 6 }}
{{- end }}

{{/* Sidecars of the Deployment. Their flags are explained in docs/kubernetes.md; test/chart/controller.test.ts lists them. */}}
{{- define "loopcsi.centralSidecars" -}}
{{- $values := .Values -}}
{{- $controller := .Values.controller -}}
- name: provisioner
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.provisioner.image) }}
  imagePullPolicy: {{ $values.provisioner.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    {{- include "loopcsi.leaderElection" . | nindent 4 }}
    - --strict-topology=true
    - --enable-capacity=true
    # The Deployment owns the CSIStorageCapacity objects, so they are deleted with it, but not with each pod.
    - --capacity-ownerref-level=2
    - --capacity-poll-interval={{ $values.provisioner.capacityPollInterval }}
    # With the default of one, a node that does not answer would delay the capacity of all others.
    - --capacity-threads={{ $controller.provisioner.capacityThreads }}
    - --kube-api-capacity-qps=20
    - --kube-api-capacity-burst=40
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    - --worker-threads={{ $controller.provisioner.workerThreads }}
    - --retry-interval-max={{ $controller.provisioner.retryIntervalMax }}
    - --extra-create-metadata=true
    - --default-fstype={{ $values.driver.defaultFsType }}
    - --timeout=120s
    {{- range $values.provisioner.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "loopcsi.namespaceVariable" . | nindent 4 }}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    {{- with $values.provisioner.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.centralRest" $values.provisioner | nindent 2 }}
{{- if include "loopcsi.snapshots" . }}
- name: snapshotter
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.snapshotter.image) }}
  imagePullPolicy: {{ $values.snapshotter.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    {{- include "loopcsi.leaderElection" . | nindent 4 }}
    - --worker-threads={{ $controller.snapshotter.workerThreads }}
    - --retry-interval-max={{ $controller.snapshotter.retryIntervalMax }}
    - --extra-create-metadata=true
    - --timeout=120s
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    {{- range $values.snapshotter.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "loopcsi.namespaceVariable" . | nindent 4 }}
    {{- with $values.snapshotter.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.centralRest" $values.snapshotter | nindent 2 }}
{{- end }}
{{- if $values.resizer.enabled }}
- name: resizer
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.resizer.image) }}
  imagePullPolicy: {{ $values.resizer.image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    {{- include "loopcsi.leaderElection" . | nindent 4 }}
    - --workers={{ $controller.resizer.workers }}
    # Volumes in use can be expanded, so the resizer need not watch every pod in the cluster.
    - --handle-volume-inuse-error=false
    - --resize-timeout=120s
    - --modify-timeout=120s
    {{- include "loopcsi.apiRate" . | nindent 4 }}
    {{- range $values.resizer.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "loopcsi.namespaceVariable" . | nindent 4 }}
    {{- with $values.resizer.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "loopcsi.centralRest" $values.resizer | nindent 2 }}
{{- end }}
{{- with $controller.snapshotMetadata }}
{{- if .enabled }}
- name: snapshot-metadata
  image: {{ include "loopcsi.image" (dict "root" $ "image" .image) }}
  imagePullPolicy: {{ .image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --tls-cert=/snapshot-metadata-tls/tls.crt
    - --tls-key=/snapshot-metadata-tls/tls.key
    - --audience={{ default $values.driver.name .audience }}
    - --max-streaming-duration-min={{ .maxStreamingMinutes }}
    {{- range .extraArgs }}
    - {{ . | quote }}
    {{- end }}
  ports:
    - {name: snap-metadata, containerPort: 50051}
  {{- include "loopcsi.centralRest" . | nindent 2 }}
    - {name: snapshot-metadata-tls, mountPath: /snapshot-metadata-tls, readOnly: true}
{{- end }}
{{- end }}
{{- with $controller.healthMonitor }}
{{- if .enabled }}
- name: health-monitor
  image: {{ include "loopcsi.image" (dict "root" $ "image" .image) }}
  imagePullPolicy: {{ .image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    {{- include "loopcsi.leaderElection" $ | nindent 4 }}
    - --monitor-interval={{ .interval }}
    - --timeout=120s
    {{- range .extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "loopcsi.namespaceVariable" $ | nindent 4 }}
  {{- include "loopcsi.centralRest" . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty if the controller looks after nodes that do not come back. */}}
{{- define "loopcsi.watchesLosses" -}}
{{- with .Values.controller.nodeLoss }}{{ if or .events (eq .policy "forget") }}true{{ end }}{{ end }}
{{- end }}

{{- define "loopcsi.leaderElection" -}}
- --leader-election=true
- --leader-election-namespace=$(NAMESPACE)
{{- end }}

{{- define "loopcsi.namespaceVariable" -}}
- {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- end }}

{{- define "loopcsi.centralSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Common fields of the sidecars of the Deployment. Argument: the sidecar's values. */}}
{{- define "loopcsi.centralRest" -}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext: {{- include "loopcsi.centralSecurity" . | nindent 2 }}
resources: {{- toYaml .resources | nindent 2 }}
volumeMounts:
  - {name: plugin, mountPath: /csi}
  - {{- include "loopcsi.tokenMount" . | nindent 4 }}
{{- end }}

{{/* Objects for the certificates of both roles. */}}
{{- define "loopcsi.controllerTls" -}}
{{- $root := . }}
{{- $tls := .Values.controller.tls }}
{{- $prefix := include "loopcsi.controllerPrefix" . }}
{{- $labels := include "loopcsi.labels" . }}
{{- if eq $tls.mode "self" }}
{{- range $secret := list "ca" "controller-tls" "agent-tls" }}
---
# The controller fills this Secret. It is created here, so that the controller needs no right to create Secrets. Upgrades keep its data.
apiVersion: v1
kind: Secret
metadata:
  name: {{ $prefix }}-{{ $secret }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
type: Opaque
{{- end }}
{{- else if eq $tls.mode "certManager" }}
{{- if not $tls.certManager.issuerRef }}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata:
  name: {{ $prefix }}-self-signed
  namespace: {{ .Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  selfSigned: {}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $prefix }}-ca
  namespace: {{ .Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  isCA: true
  commonName: {{ $prefix }} CA
  secretName: {{ $prefix }}-ca-cert
  duration: 87600h
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: {{ $prefix }}-self-signed, kind: Issuer}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata:
  name: {{ $prefix }}-ca
  namespace: {{ .Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  ca: {secretName: {{ $prefix }}-ca-cert}
{{- end }}
{{- range $role, $usages := dict "controller" (list "client auth") "agent" (list "server auth" "client auth") }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $prefix }}-{{ $role }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  secretName: {{ include "loopcsi.tlsSecret" (dict "root" $root "role" $role) }}
  commonName: loopcsi {{ $role }}
  uris: [loopcsi://{{ $root.Values.driver.name }}/{{ $role }}]
  usages: {{ toJson (prepend $usages "digital signature") }}
  duration: 2160h
  renewBefore: 720h
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef: {{- default (dict "name" (printf "%s-ca" $prefix) "kind" "Issuer") $tls.certManager.issuerRef | toYaml | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Service of snapshot-metadata, and the object that leads its clients there. */}}
{{- define "loopcsi.snapshotMetadataService" -}}
{{- $metadata := .Values.controller.snapshotMetadata }}
{{- if $metadata.enabled }}
{{- $name := printf "%s-metadata" (include "loopcsi.controllerPrefix" .) }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "loopcsi.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "loopcsi.selectorLabels" . | nindent 4 }}
    app.kubernetes.io/component: controller
  ports:
    - {name: snapshot-metadata, port: 6443, targetPort: snap-metadata, protocol: TCP}
{{- if .Capabilities.APIVersions.Has "cbt.storage.k8s.io/v1beta1" }}
---
apiVersion: cbt.storage.k8s.io/v1beta1
kind: SnapshotMetadataService
metadata:
  # Clients look for the name of the driver.
  name: {{ .Values.driver.name }}
  labels: {{- include "loopcsi.labels" . | nindent 4 }}
spec:
  address: {{ $name }}.{{ .Release.Namespace }}:6443
  audience: {{ default .Values.driver.name $metadata.audience }}
  caCert: {{ $metadata.caBundle }}
{{- end }}
{{- end }}
{{- end }}
