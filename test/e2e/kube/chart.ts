/** The chart as the tests install it: all images come from the runtime's store, with three pools and a class for each purpose. */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { projectRoot } from '../cluster/cache.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { images, sidecars } from '../cluster/images.ts';
import { nodePaths } from '../cluster/layout.ts';
import type { ClusterNode } from '../cluster/node.ts';

export const release = 'loopcsi';
export const systemNamespace = 'loopcsi';
export const driverName = 'loopcsi.io';
export const chartPath = join(projectRoot, 'charts', 'loopcsi');
export const nodePods = 'app.kubernetes.io/instance=loopcsi,app.kubernetes.io/component=node';

export const classes = {
  ext4: 'loopcsi',
  xfs: 'loopcsi-xfs',
  btrfs: 'loopcsi-btrfs',
  immediate: 'loopcsi-immediate',
  thick: 'loopcsi-thick',
  /** In the pool with reflink. */
  reflink: 'loopcsi-reflink',
  immediateReflink: 'loopcsi-immediate-reflink',
  noatime: 'loopcsi-noatime',
  /**
   * In the same pool, with XFS as the default filesystem: growing a mounted ext4 needs CAP_SYS_RESOURCE, which even root may lack
   * on a build machine.
   */
  suite: 'loopcsi-suite',
  /** In an embedded pool, on its own XFS image. */
  embedded: 'loopcsi-embedded',
  /** In a pool of 256 MiB on the first node, 512 MiB on the second, and so on. */
  tiny: 'loopcsi-tiny',
} as const;

const local = (program: string): object => ({
  registry: 'localhost',
  repository: program,
  tag: 'e2e',
  pullPolicy: 'Never',
});

/** The snapshot-controller of the chart. */
export function snapshotController(): object {
  return { enabled: true, image: local('snapshot-controller') };
}

/** Values of the tests' release; `more` is merged over them, key by key. */
export function chartValues(
  more: Readonly<Record<string, object>> = {},
): Readonly<Record<string, unknown>> {
  const pool = (name: string): string => join(nodePaths.pools, name);
  const [provisioner, resizer, snapshotter] = sidecars.map(local);
  const values: Readonly<Record<string, unknown>> = {
    image: { ...local('loopcsi'), tag: images.driver.replace(/^.*:/, '') },
    driver: {
      logLevel: 'debug',
      ephemeral: { enabled: true, defaultSize: '64Mi', maxSize: '256Mi' },
    },
    provisioner: {
      image: provisioner,
      capacityPollInterval: '5s',
      // By default a node waits 20 s before it takes an Immediate claim.
      extraArgs: ['--node-deployment-base-delay=1s', '--node-deployment-max-delay=2s'],
    },
    resizer: { image: resizer },
    snapshotter: { image: snapshotter },
    'snapshot-controller': snapshotController(),
    pools: [
      { name: 'default', path: pool('default'), create: true, reserve: '1%' },
      {
        name: 'reflink',
        path: pool('reflink'),
        create: true,
        mountpointRequired: true,
        reserve: '0%',
      },
      { name: 'tiny', path: pool('tiny'), create: true, mountpointRequired: true, reserve: '0%' },
      { name: 'embedded', path: pool('embedded'), create: true, reflink: '4Gi', reserve: '0%' },
    ],
    storageClasses: [
      { name: classes.ext4, default: true },
      { name: classes.xfs, fsType: 'xfs' },
      { name: classes.btrfs, fsType: 'btrfs' },
      { name: classes.immediate, fsType: 'xfs', volumeBindingMode: 'Immediate' },
      { name: classes.reflink, fsType: 'xfs', parameters: { pool: 'reflink' } },
      {
        name: classes.immediateReflink,
        fsType: 'xfs',
        volumeBindingMode: 'Immediate',
        parameters: { pool: 'reflink' },
      },
      { name: classes.thick, parameters: { provisioning: 'thick' } },
      { name: classes.embedded, fsType: 'xfs', parameters: { pool: 'embedded' } },
      { name: classes.suite, fsType: 'xfs', parameters: { pool: 'reflink' } },
      { name: classes.noatime, mountOptions: ['noatime'] },
      { name: classes.tiny, parameters: { pool: 'tiny' } },
    ],
    ...more,
  };
  return values;
}

/** The disks of each node: one with reflink, and a small one. They are mounted again after a reboot, as fstab would. */
const disksOf = (number: number) => ({
  reflink: { size: 4 * 2 ** 30, format: 'xfs' },
  tiny: { size: number * 256 * 2 ** 20, format: 'ext4' },
});

/** Makes the images of the node's disks. */
export async function makeDisks(node: ClusterNode, cluster: Cluster): Promise<void> {
  const number = cluster.nodes.indexOf(node) + 1;
  for (const [name, { size, format }] of Object.entries(disksOf(number))) {
    const image = diskImage(node, name);
    await writeFile(image, '');
    await truncate(image, size);
    await run(`mkfs.${format}`, ['-q', image]);
  }
}

export async function mountDisks(node: ClusterNode): Promise<void> {
  for (const name of Object.keys(disksOf(1))) {
    const mountPoint = join(nodePaths.pools, name);
    await node.run('mkdir', '--parents', mountPoint);
    await node.run('mount', '-o', 'loop', diskImage(node, name), mountPoint);
  }
}

function diskImage(node: ClusterNode, name: string): string {
  return join(node.layout.directory, `disk-${name}.img`);
}
