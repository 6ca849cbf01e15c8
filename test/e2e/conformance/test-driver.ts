/** The features that Kubernetes' storage suite tests, and the tests that are left out, each with its reason. */
import { driverName, release } from '../kube/chart.ts';

/**
 * The class of the suite's tests of VolumeAttributesClass. It changes `trim`, whose value can be changed on any node: the nodes
 * of the tests have cgroup v1, where volumes cannot have I/O limits.
 */
export const modifyingClass = { name: 'loopcsi-modified', parameters: { trim: 'off' } } as const;

/** These tests modify claims that have no pod yet, which must be bound for that. */
export const needsImmediateBinding = /volume-modify-stress/;

/**
 * The suite's test-driver file; JSON is valid YAML. Only a controller expands a volume while no pod uses it
 * (docs/kubernetes.md, "With a controller").
 */
export const testDriver = (hasController: boolean, storageClass: string): object => ({
  ShortName: 'loopcsi',
  StorageClass: { FromExistingClassName: storageClass },
  SnapshotClass: { FromExistingClassName: release },
  VolumeAttributesClass: { FromExistingClassName: modifyingClass.name },
  InlineVolumes: [{ Attributes: { size: '64Mi' }, Shared: false, ReadOnly: false }],
  DriverInfo: {
    Name: driverName,
    // XFS needs at least 300 MiB.
    SupportedSizeRange: { Min: '320Mi', Max: '100Ti' },
    SupportedFsType: { '': {}, ext4: {}, xfs: {}, btrfs: {} },
    SupportedMountOption: { noatime: {} },
    TopologyKeys: [`topology.${driverName}/node`],
    VolumeModifyStressTestOptions: { NumPods: 3 },
    Capabilities: {
      persistence: true,
      block: true,
      fsGroup: true,
      exec: true,
      snapshotDataSource: true,
      pvcDataSource: true,
      controllerExpansion: hasController,
      nodeExpansion: true,
      onlineExpansion: true,
      offlineExpansion: true,
      multipods: true,
      RWX: false,
      capReadOnlyMany: true,
      volumeLimits: false,
      singleNodeVolume: true,
      topology: true,
      capacity: true,
      readWriteOncePod: true,
      multiplePVsSameID: false,
      FSResizeFromSourceNotSupported: false,
    },
  },
});

/** Tests that are left out, by patterns of their names. */
export const left: readonly { readonly pattern: RegExp; readonly because: string }[] = [
  {
    pattern: /\[Disruptive\]/,
    because:
      'They restart the kubelet over ssh; [test/e2e/scenarios/disruption](../test/e2e/scenarios/disruption) does it here.',
  },
  {
    pattern: /\[Feature:(?:Windows|SELinux)|\(ntfs\)/,
    because: 'Linux nodes, and this one has no SELinux.',
  },
  {
    pattern: /should provision storage with any volume data source/,
    because:
      'Installs a populator from images of other projects, which the Go module proxy does not have.',
  },
  {
    pattern: /should not mount \/ map unused volumes/,
    because: 'Enters the machine through /proc/1, which a build container may not.',
  },
];
