{{/* DaemonSet of one node group. Arguments: (dict "root" $ "group" …). */}}
{{- define "loopcsi.daemonset" -}}
{{- $root := .root }}
{{- $group := .group }}
{{- $values := .root.Values }}
{{- $driver := $values.driver }}
{{- $selector := include "loopcsi.selectorLabels" $root }}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "loopcsi.fullname" $root }}-node{{ with $group.name }}-{{ . }}{{ end }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "loopcsi.labels" $root | nindent 4 }}
    app.kubernetes.io/component: node
spec:
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
      app.kubernetes.io/component: node
      {{- with $group.name }}
      loopcsi.io/node-group: {{ . }}
      {{- end }}
  updateStrategy: {{- toYaml $values.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- $own := dict "app.kubernetes.io/component" "node" }}
        {{- with $group.name }}{{ $_ := set $own "loopcsi.io/node-group" . }}{{ end }}
        {{- $own = merge $own (fromYaml $selector) }}
        {{- merge $own $values.podLabels (include "loopcsi.labels" $root | fromYaml) | toYaml | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: driver
        {{- with $values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ include "loopcsi.serviceAccountName" $root }}
      automountServiceAccountToken: false
      {{- if $values.hostNetwork }}
      hostNetwork: true
      # The sidecars find the API server by its address, and need no names of the cluster.
      dnsPolicy: Default
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with include "loopcsi.pullSecrets" $root }}
      imagePullSecrets: {{- . | nindent 8 }}
      {{- end }}
      {{- with $values.seLinuxOptions }}
      securityContext:
        seLinuxOptions: {{- toYaml . | nindent 10 }}
      {{- end }}
      nodeSelector: {{- include "loopcsi.nodeSelector" $group.nodeSelector | nindent 8 }}
      {{- with default $values.affinity $group.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      # Longer than --shutdown-timeout, so that running operations can complete.
      terminationGracePeriodSeconds: 60
      {{- if or $driver.udevRule.enabled $values.extraInitContainers }}
      initContainers:
        {{- with $values.extraInitContainers }}{{ toYaml . | nindent 8 }}{{ end }}
        {{- if $driver.udevRule.enabled }}{{ include "loopcsi.udevRuleContainer" $root | nindent 8 }}{{ end }}
      {{- end }}
      containers:
        {{- include "loopcsi.driverContainer" . | nindent 8 }}
        {{- if not $values.controller.enabled }}{{ include "loopcsi.sidecarContainers" $root | nindent 8 }}{{ end }}
        {{- if $values.registrar.enabled }}{{ include "loopcsi.registrarContainer" $root | nindent 8 }}{{ end }}
        {{- with $values.extraContainers }}{{ toYaml . | nindent 8 }}{{ end }}
      volumes:
        # CSI socket for the kubelet and the sidecars.
        - name: plugin
          hostPath: {path: {{ $values.kubeletDir }}/plugins/{{ $driver.name }}, type: DirectoryOrCreate}
        # The kubelet searches this directory for registration sockets.
        - name: registration
          hostPath: {path: {{ $values.kubeletDir }}/plugins_registry, type: Directory}
        # Staging paths, and target paths of raw block volumes.
        - name: kubelet-plugins
          hostPath: {path: {{ $values.kubeletDir }}/plugins, type: Directory}
        # Target paths of mounted volumes.
        - name: kubelet-pods
          hostPath: {path: {{ $values.kubeletDir }}/pods, type: DirectoryOrCreate}
        # The host's /dev, because loop devices are created while the driver runs.
        - name: dev
          hostPath: {path: /dev, type: Directory}
        # Queue settings of loop devices: the driver disables discard for thick volumes. The container's own /sys is read-only.
        - name: sys-block
          hostPath: {path: /sys/devices/virtual/block, type: Directory}
        # The driver records here which pool it has seen at which path, so it must be outside all pools.
        - name: state
          hostPath: {path: {{ $values.stateDir }}, type: DirectoryOrCreate}
        {{- range $group.pools }}
        - name: pool-{{ .name }}
          hostPath: {path: {{ .path }}, type: {{ if .create }}DirectoryOrCreate{{ else }}Directory{{ end }}}
        {{- end }}
        {{- if $driver.ioLimits.enabled }}
        - name: sys-fs-cgroup
          hostPath: {path: /sys/fs/cgroup, type: Directory}
        {{- end }}
        {{- if $driver.udevRule.enabled }}
        # /run is a tmpfs, so the rule disappears when the node restarts.
        - name: udev-rules
          hostPath: {path: /run/udev/rules.d, type: DirectoryOrCreate}
        {{- end }}
        - name: tmp
          emptyDir: {}
        {{- if $values.controller.enabled }}
        # The driver starts without the certificate and waits for it, so the order of installation does not matter.
        - name: tls
          secret: {secretName: {{ include "loopcsi.tlsSecret" (dict "root" $root "role" "agent") }}, optional: true, defaultMode: 0400}
        {{- else }}
        {{- include "loopcsi.tokenVolume" $root | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}{{ toYaml . | nindent 8 }}{{ end }}
{{- end }}

{{- define "loopcsi.driverContainer" -}}
{{- $values := .root.Values }}
{{- $driver := $values.driver -}}
- name: driver
  image: {{ include "loopcsi.image" (dict "root" .root "image" $values.image "tag" .root.Chart.AppVersion) }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    - serve
    - --endpoint=unix:///csi/csi.sock
    - --kubelet-socket={{ $values.kubeletDir }}/plugins/{{ $driver.name }}/csi.sock
    {{- if not $values.registrar.enabled }}
    - --registration-dir=/registration
    {{- end }}
    - --driver-name={{ $driver.name }}
    - --node-id=$(NODE_NAME)
    - --kubelet-dir={{ $values.kubeletDir }}
    - --cluster-pools={{ include "loopcsi.poolNames" .root }}
    - --state-dir={{ $values.stateDir }}
    - --default-fstype={{ $driver.defaultFsType }}
    {{- if $values.controller.enabled }}
    # The images of volumes that no pod uses grow at once, too; their filesystems when they are staged.
    - --expansion=both
    - --agent-address=[$(POD_IP)]:{{ $values.controller.agentPort }}
    - --tls-dir=/tls
    - --transfers={{ $driver.transfers.parallel }}
    {{- with $driver.transfers.maxBandwidth }}
    - --transfer-rate={{ . }}
    {{- end }}
    {{- else }}
    # The kubelet expands volumes, because the resizer leader runs on one node and cannot reach pools on other nodes.
    - --expansion=node
    {{- end }}
    # Brackets are valid for IPv4 and IPv6 addresses.
    - --http-address=[$(POD_IP)]:{{ $driver.httpPort }}
    - --log-level={{ $driver.logLevel }}
    - --shutdown-timeout={{ $driver.shutdownTimeout }}
    {{- if $driver.ephemeral.enabled }}
    - --ephemeral-default-size={{ $driver.ephemeral.defaultSize }}
    - --ephemeral-max-size={{ $driver.ephemeral.maxSize }}
    - --ephemeral-pool-cap={{ $driver.ephemeral.poolCap }}
    {{- else }}
    # 0 refuses inline volumes.
    - --ephemeral-max-size=0
    {{- end }}
    {{- if and $driver.ioLimits.enabled $driver.ioLimits.podsCgroup }}
    - --pods-cgroup={{ $driver.ioLimits.podsCgroup }}
    {{- end }}
    {{- with $driver.maxVolumes }}
    - --max-volumes={{ . }}
    {{- end }}
    {{- range .group.pools }}
    - --pool={{ include "loopcsi.pool" . }}
    {{- end }}
    {{- range $driver.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    # The command line in this container (`kubectl exec`) uses this endpoint.
    - {name: LOOPCSI_ENDPOINT, value: unix:///csi/csi.sock}
    {{- with $driver.extraEnv }}{{ toYaml . | nindent 4 }}{{ end }}
  ports:
    - {name: metrics, containerPort: {{ $driver.httpPort }}}
    {{- if $values.controller.enabled }}
    - {name: agent, containerPort: {{ $values.controller.agentPort }}}
    {{- end }}
  # `kubectl describe pod` shows why the driver exited.
  terminationMessagePolicy: FallbackToLogsOnError
  livenessProbe:
    httpGet: {path: /healthz, port: metrics}
    initialDelaySeconds: 10
    periodSeconds: 10
    timeoutSeconds: 3
    failureThreshold: 5
  # Not httpGet, because its event would contain only the status code and not the reason.
  readinessProbe:
    exec:
      command:
        - bash
        - -c
        - |
          { exec 3<>"/dev/tcp/$POD_IP/{{ $driver.httpPort }}"; } 2>/dev/null ||
            { echo "the driver does not answer on port {{ $driver.httpPort }} yet; see its log"; exit 1; }
          printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
          IFS=' ' read -r _ code _ <&3
          [ "$code" = 200 ] || { sed '1,/^\r$/d' <&3; exit 1; }
    initialDelaySeconds: 2
    periodSeconds: 10
    timeoutSeconds: 5
  securityContext:
    # The driver needs CAP_SYS_ADMIN for mounts and loop devices, CAP_SYS_RESOURCE to grow a mounted ext4, the host's loop devices,
    # and mounts that the kubelet sees (Bidirectional). Kubernetes grants the last two only to privileged containers.
    privileged: true
    readOnlyRootFilesystem: true
  resources: {{- toYaml $driver.resources | nindent 4 }}
  volumeMounts:
    - {name: plugin, mountPath: /csi}
    - {name: registration, mountPath: /registration}
    - {name: kubelet-plugins, mountPath: {{ $values.kubeletDir }}/plugins, mountPropagation: Bidirectional}
    - {name: kubelet-pods, mountPath: {{ $values.kubeletDir }}/pods, mountPropagation: Bidirectional}
    - {name: dev, mountPath: /dev}
    - {name: sys-block, mountPath: /sys/devices/virtual/block}
    - {name: state, mountPath: {{ $values.stateDir }}}
    {{- range .group.pools }}
    # With HostToContainer, a disk that is mounted later appears without a restart.
    - {name: pool-{{ .name }}, mountPath: {{ .path }}, mountPropagation: HostToContainer}
    {{- end }}
    {{- if $driver.ioLimits.enabled }}
    # Limits of volumes are set in the cgroup of all pods, which a container does not see otherwise.
    - {name: sys-fs-cgroup, mountPath: /sys/fs/cgroup}
    {{- end }}
    - {name: tmp, mountPath: /tmp}
    {{- if $values.controller.enabled }}
    - {name: tls, mountPath: /tls, readOnly: true}
    {{- end }}
    {{- with $driver.extraVolumeMounts }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{/* Installs the udev rule. udevd reloads rules when the directory's mtime changes, so a complete file is renamed into place. */}}
{{- define "loopcsi.udevRuleContainer" -}}
{{- $values := .Values -}}
- name: udev-rule
  image: {{ include "loopcsi.image" (dict "root" . "image" $values.image "tag" .Chart.AppVersion) }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command:
    - sh
    - -c
    # If the rule cannot be written, the driver starts anyway, and `kubectl describe pod` shows the message.
    - |
      install -m 0644 /usr/lib/loopcsi/contrib/udev/10-loopcsi.rules /host-rules/.10-loopcsi.new &&
        mv -f /host-rules/.10-loopcsi.new /host-rules/10-loopcsi.rules ||
        echo "the udev rule could not be written to /run/udev/rules.d of the node: see the log of this container" >/dev/termination-log
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext: {{- include "loopcsi.sidecarSecurity" . | nindent 4 }}
  resources: {{- toYaml $values.driver.udevRule.resources | nindent 4 }}
  volumeMounts:
    - {name: udev-rules, mountPath: /host-rules}
{{- end }}
