/** The chart as the tests install it: all images come from the runtime's store, with three pools and a class for each purpose. */
import { execFile } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../cluster/cache.ts';
import { images, sidecars } from '../cluster/images.ts';
import type { Layout } from '../cluster/layout.ts';

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
  noatime: 'loopcsi-noatime',
  /**
   * In the same pool, with XFS as the default filesystem: growing a mounted ext4 needs CAP_SYS_RESOURCE, which even root may lack
   * on a build machine.
   */
  suite: 'loopcsi-suite',
  /** In an embedded pool, on its own XFS image. */
  embedded: 'loopcsi-embedded',
  /** In a pool of 256 MiB. */
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
  layout: Layout,
  more: Readonly<Record<string, object>> = {},
): Readonly<Record<string, unknown>> {
  const pool = (name: string): string => join(layout.pools, name);
  const [provisioner, resizer, snapshotter] = sidecars.map(local);
  const values: Readonly<Record<string, unknown>> = {
    image: { ...local('loopcsi'), tag: images.driver.replace(/^.*:/, '') },
    kubeletDir: layout.kubeletDir,
    stateDir: join(layout.state, 'driver'),
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

/** The node's disks: one with reflink, and a small one. They are mounted again after a reboot, as fstab would. */
const disks = {
  reflink: { size: 4 * 2 ** 30, format: 'xfs' },
  tiny: { size: 256 * 2 ** 20, format: 'ext4' },
};

export async function makeDisks(layout: Layout): Promise<void> {
  const execute = promisify(execFile);
  for (const [name, { size, format }] of Object.entries(disks)) {
    const image = join(layout.state, `disk-${name}.img`);
    await writeFile(image, '');
    await truncate(image, size);
    await execute(`mkfs.${format}`, ['-q', image]);
    await mkdir(join(layout.pools, name), { recursive: true });
  }
}

export async function mountDisks(layout: Layout): Promise<void> {
  const execute = promisify(execFile);
  for (const name of Object.keys(disks)) {
    const image = join(layout.state, `disk-${name}.img`);
    await execute('mount', ['-o', 'loop', image, join(layout.pools, name)]);
  }
}
