/** Values that several tests of the chart render. */
export const image = { registry: 'r.example:5000', repository: 'a/b', tag: 't' };

/** Enables every optional feature. */
export const everything = (from: object = image): object => ({
  image: from,
  provisioner: { image: from },
  snapshotter: { enabled: true, image: from },
  resizer: { image: from },
  registrar: { enabled: true, image: from },
  podMonitor: { enabled: true, labels: { team: 'storage' } },
  prometheusRule: { enabled: true, labels: { team: 'storage' }, annotations: { a: 'b' } },
  dashboard: { enabled: true },
  driver: {
    ephemeral: { enabled: true },
    ioLimits: { enabled: true, podsCgroup: '/sys/fs/cgroup/kubelet.slice' },
    transfers: { parallel: 3, maxBandwidth: '50Mi' },
    maxVolumes: 20,
    extraArgs: ['--log-level=debug'],
    extraEnv: [{ name: 'TZ', value: 'UTC' }],
    extraVolumeMounts: [{ name: 'keys', mountPath: '/keys', readOnly: true }],
  },
  extraVolumes: [{ name: 'keys', secret: { secretName: 'keys' } }],
  networkPolicy: {
    enabled: true,
    from: [{ namespaceSelector: {} }],
    egress: [{ ports: [{ protocol: 'TCP', port: 6443 }] }],
  },
  priorityClassQuota: { enabled: true },
  'snapshot-controller': { enabled: true, image: from },
});

export const nodeGroups = {
  nodeGroups: [
    {
      name: 'fast',
      nodeSelector: { disk: 'nvme' },
      pools: [{ name: 'fast', path: '/mnt/nvme', mountpointRequired: true }],
    },
    {
      name: 'bulk',
      nodeSelector: { disk: 'hdd' },
      pools: [
        { name: 'bulk', path: '/mnt/hdd', reserve: '5.5%', overcommit: 1.5 },
        { name: 'share', path: '/srv/share', create: true, reflink: '100Gi' },
      ],
    },
  ],
};
