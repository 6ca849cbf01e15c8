/** What Kubernetes' storage suite may expect of the driver, and which of its tests are left out, each with the reason. */
import { classes, driverName, release } from '../kube/chart.ts';

/** The suite's test-driver file; YAML takes JSON. */
export const testDriver = {
  ShortName: 'loopcsi',
  StorageClass: { FromExistingClassName: classes.suite },
  SnapshotClass: { FromExistingClassName: release },
  InlineVolumes: [{ Attributes: { size: '64Mi' }, Shared: false, ReadOnly: false }],
  DriverInfo: {
    Name: driverName,
    // XFS asks for 300 MiB.
    SupportedSizeRange: { Min: '320Mi', Max: '100Ti' },
    SupportedFsType: { '': {}, ext4: {}, xfs: {}, btrfs: {} },
    SupportedMountOption: { noatime: {} },
    TopologyKeys: [`topology.${driverName}/node`],
    Capabilities: {
      persistence: true,
      block: true,
      fsGroup: true,
      exec: true,
      snapshotDataSource: true,
      pvcDataSource: true,
      controllerExpansion: false,
      nodeExpansion: true,
      onlineExpansion: true,
      offlineExpansion: true,
      multipods: true,
      RWX: false,
      volumeLimits: false,
      singleNodeVolume: true,
      topology: true,
      capacity: true,
      readWriteOncePod: true,
      multiplePVsSameID: false,
      FSResizeFromSourceNotSupported: false,
    },
  },
} as const;

/** Regular expressions over test names, as ginkgo takes them. */
export const left: readonly { readonly pattern: string; readonly because: string }[] = [
  {
    pattern: '\\[Disruptive\\]',
    because: 'restarts the kubelet over ssh; test/e2e/scenarios/disruption does it here',
  },
  { pattern: '\\[Serial\\]', because: 'needs a cluster to itself and more than one node' },
  { pattern: '\\[Slow\\]', because: 'hours of waiting; run by name when needed' },
  { pattern: '\\[Feature:(Windows|SELinux)', because: 'Linux nodes, and this one has no SELinux' },
  {
    pattern: 'should not mount / map unused volumes',
    because: 'enters the machine through /proc/1, which a build container may not',
  },
];
