/**
 * Invariants of a pool (docs/design.md), checked on the disk and in the kernel, never through the driver.
 */
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import type { Host, LoopDevice, Mount } from '../../src/host/host.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import {
  groupRecord,
  nodeStateSchema,
  readRecord,
  snapshotRecord,
  type VolumeRecord,
  volumeRecord,
} from '../../src/state/records.ts';
import { MiB } from '../../src/units.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';

const host: Host = makeRealHost();

/** When the pool is checked: right after a kill, with a driver that is idle, or after everything was deleted. */
export type Moment = 'killed' | 'idle' | 'empty';

export interface PoolPaths {
  /** Contains all files of the test. */
  readonly directory: string;
  readonly poolPath: string;
}

/** Numbers of entries, devices and mounts, for the table of outcomes. */
export interface PoolCounts {
  readonly volumes: number;
  readonly snapshots: number;
  readonly groups: number;
  readonly temporary: number;
  /** Unfinished restores in `tmp/`, which the repeated call resumes. `temporary` does not include them. */
  readonly unfinishedCopies: number;
  readonly trash: number;
  readonly devices: number;
  readonly mounts: number;
}

const entriesOf = async (paths: PoolPaths, area: string): Promise<readonly string[]> =>
  readdir(join(paths.poolPath, area)).catch(() => []);

/** Whether a mount or image belongs to a pool's filesystem, including an embedded pool. */
const isPoolFs = ({ directory, poolPath }: PoolPaths, path: string): boolean =>
  path === poolPath ||
  path.includes(join(directory, 'pool-fs.img')) ||
  path.startsWith(join(directory, 'embedded/'));

async function ourDevices(paths: PoolPaths) {
  const below = await devicesBelow(paths.directory);
  return below.filter(({ image }) => !isPoolFs(paths, image));
}

async function ourMounts(paths: PoolPaths) {
  const below = await mountsBelow(paths.directory);
  return below.filter((target) => !isPoolFs(paths, target));
}

async function unfinishedCopiesIn(paths: PoolPaths): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await entriesOf(paths, 'tmp')) {
    if ((await entriesOf(paths, join('tmp', entry))).includes('restore.json')) found.push(entry);
  }
  return found;
}

export async function countContents(paths: PoolPaths): Promise<PoolCounts> {
  const count = async (area: string) => (await entriesOf(paths, area)).length;
  const unfinishedCopies = (await unfinishedCopiesIn(paths)).length;
  return {
    volumes: (await count('volumes')) + (await count('ephemeral')),
    snapshots: await count('snapshots'),
    groups: await count('groups'),
    temporary: (await count('tmp')) - unfinishedCopies,
    unfinishedCopies,
    trash: await count('trash'),
    devices: (await ourDevices(paths)).length,
    mounts: (await ourMounts(paths)).length,
  };
}

/** Every broken invariant as text; empty when all are kept. */
export async function brokenInvariants(
  paths: PoolPaths,
  moment: Moment,
): Promise<readonly string[]> {
  const volumes = await volumesOf(paths);
  const broken = [
    ...volumes.flatMap(({ problems }) => problems),
    ...(await brokenSnapshots(paths, moment)),
    ...(await brokenDevices(paths, volumes, moment)),
  ];
  if (moment !== 'killed') {
    const mayStay = moment === 'idle' ? await unfinishedCopiesIn(paths) : [];
    for (const area of ['tmp', 'trash']) {
      for (const entry of await entriesOf(paths, area)) {
        if (!mayStay.includes(entry)) broken.push(`${area}/${entry} is left`);
      }
    }
  }
  if (moment === 'idle') {
    for (const target of await mountsBelow(join(paths.poolPath, 'tmp'))) {
      broken.push(`${target} is left mounted`);
    }
  }
  if (moment === 'empty') broken.push(...(await leftovers(paths)));
  return broken;
}

interface FoundVolume {
  readonly id: string;
  readonly record: VolumeRecord | undefined;
  readonly imagePath: string;
  readonly problems: readonly string[];
}

/** Rules 1 and 5: entries of `volumes/` are complete, and an image is never larger than its promised size. */
async function volumesOf(paths: PoolPaths): Promise<readonly FoundVolume[]> {
  const found: FoundVolume[] = [];
  for (const area of ['volumes', 'ephemeral']) {
    for (const id of await entriesOf(paths, area)) {
      const directory = join(paths.poolPath, area, id);
      const imagePath = join(directory, 'disk.img');
      const problems: string[] = [];
      const record = await readRecord(
        host.files,
        volumeRecord,
        join(directory, 'volume.json'),
      ).catch((error: unknown) => {
        problems.push(`${area}/${id}: record: ${String(error)}`);
        return undefined;
      });
      const status = await host.files.imageStatus(imagePath).catch(() => undefined);
      if (status === undefined) problems.push(`${area}/${id} has no image`);
      if (record !== undefined && status !== undefined) {
        problems.push(...(await brokenVolume(record, imagePath, status)));
      }
      found.push({ id, record, imagePath, problems });
    }
  }
  return found;
}

async function brokenVolume(
  record: VolumeRecord,
  imagePath: string,
  status: { sizeBytes: bigint; allocatedBytes: bigint },
): Promise<readonly string[]> {
  const problems: string[] = [];
  const { id, fsType, sizeBytes, provisioning } = record;
  if (status.sizeBytes > sizeBytes) problems.push(`${id}: image is larger than its promised size`);
  if (status.sizeBytes % MiB !== 0n) problems.push(`${id}: image size is not a multiple of 1 MiB`);
  if (provisioning === 'thick' && status.allocatedBytes < status.sizeBytes) {
    problems.push(`${id}: thick, but only ${status.allocatedBytes} bytes are allocated`);
  }
  if (fsType === null) return problems;
  const superblock = await host.filesystems[fsType].readSuperblock(imagePath);
  if (superblock === undefined) problems.push(`${id}: its image has no ${fsType}`);
  else if (superblock.sizeBytes > status.sizeBytes) {
    problems.push(`${id}: its filesystem is larger than its image`);
  }
  return problems;
}

/** A snapshot is complete or recorded as being copied; a start deletes members without their group. */
async function brokenSnapshots(paths: PoolPaths, moment: Moment): Promise<readonly string[]> {
  const problems: string[] = [];
  const groups = new Set(await entriesOf(paths, 'groups'));
  for (const id of groups) {
    await readRecord(
      host.files,
      groupRecord,
      join(paths.poolPath, 'groups', id, 'group.json'),
    ).catch((error: unknown) => problems.push(`group ${id}: ${String(error)}`));
  }
  for (const id of await entriesOf(paths, 'snapshots')) {
    const directory = join(paths.poolPath, 'snapshots', id);
    try {
      const record = await readRecord(host.files, snapshotRecord, join(directory, 'snapshot.json'));
      const images = (await readdir(directory)).filter((name) => name.startsWith('disk.img'));
      const isWhole =
        images.length === 1 && (record.state === 'copying' || images[0] === 'disk.img');
      if (!isWhole)
        problems.push(`snapshot ${id} is ${record.state} and contains ${images.join()}`);
      // The record of a group over several nodes is on one of them.
      const hasGroupHere = record.groupId !== null && record.groupPool !== null;
      if (moment !== 'killed' && hasGroupHere && !groups.has(record.groupId ?? '')) {
        problems.push(`snapshot ${id} is of group ${String(record.groupId)}, which does not exist`);
      }
    } catch (error) {
      problems.push(`snapshot ${id}: ${String(error)}`);
    }
  }
  return problems;
}

/** Rules 7 to 9: each device belongs to a volume, an image has at most one read-write device, nothing is frozen. */
async function brokenDevices(
  paths: PoolPaths,
  volumes: readonly FoundVolume[],
  moment: Moment,
): Promise<readonly string[]> {
  const problems: string[] = [];
  const mounts = await host.mounts.list();
  const known = new Set<number>();
  for (const { id, imagePath } of volumes) {
    const status = await host.files.imageStatus(imagePath).catch(() => undefined);
    if (status === undefined) continue;
    const devices = await host.loops.findByImage(status);
    for (const { number } of devices) known.add(number);
    if (devices.filter(({ readOnly }) => !readOnly).length > 1) {
      problems.push(`${id} has ${devices.length} devices`);
    }
    for (const device of devices) {
      const here = mounts.filter((mount) => isMountOf(mount, device));
      if (moment === 'idle' && here.length === 0)
        problems.push(`${device.path} of ${id} is attached but not mounted`);
      if (moment === 'idle' && device.autoclear && here.length > 0) {
        problems.push(`${device.path} of ${id} is detached at its last close (autoclear)`);
      }
      problems.push(...(await frozen(here, device)));
    }
  }
  problems.push(...(await wrongDevices(volumes, mounts)));
  for (const { device, image } of await ourDevices(paths)) {
    if (known.has(Number(device.slice('/dev/loop'.length)))) continue;
    if (moment !== 'killed') problems.push(`${device} on ${image} belongs to no volume`);
  }
  return problems;
}

/** Paths at which a volume is staged or published, but that show the device of another image. */
async function wrongDevices(
  volumes: readonly FoundVolume[],
  mounts: readonly Mount[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  const devices = await host.loops.list();
  for (const { id, imagePath } of volumes) {
    const image = await host.files.imageStatus(imagePath).catch(() => undefined);
    const nodeState = await readRecord(
      host.files,
      nodeStateSchema,
      join(imagePath, '..', 'node.json'),
    ).catch(() => undefined);
    if (image === undefined || nodeState === undefined) continue;
    const { staged, published } = nodeState;
    const paths = [
      ...(staged === null
        ? []
        : [staged.stagingTargetPath, join(staged.stagingTargetPath, 'device')]),
      ...published.map(({ targetPath }) => targetPath),
    ];
    for (const mount of mounts.filter(({ target }) => paths.includes(target))) {
      const device = devices.find((one) => isMountOf(mount, one));
      if (device === undefined) continue;
      const { backing } = device;
      if (backing.device === image.device && backing.inode === image.inode) continue;
      problems.push(
        `${mount.target} of ${id} shows ${device.path}, which is attached to another image`,
      );
    }
  }
  return problems;
}

function isMountOf(mount: Mount, device: LoopDevice): boolean {
  return (
    mount.majorMinor === device.majorMinor ||
    mount.source === device.path ||
    mount.root === `/loop${device.number}`
  );
}

async function frozen(mounts: readonly Mount[], device: LoopDevice): Promise<readonly string[]> {
  const mount = mounts.find(({ root }) => root === '/');
  if (mount === undefined) return [];
  const was = await host.mounts.thaw(mount.target, device).catch(() => false);
  return was ? [`${device.path}, mounted at ${mount.target}, was frozen`] : [];
}

/** Entries, devices, mounts and targets that are left after everything was deleted. */
async function leftovers(paths: PoolPaths): Promise<readonly string[]> {
  const left: string[] = [];
  for (const area of ['volumes', 'ephemeral', 'snapshots', 'groups']) {
    for (const entry of await entriesOf(paths, area)) left.push(`${area}/${entry} is left`);
  }
  for (const { device, image } of await ourDevices(paths)) left.push(`${device} on ${image}`);
  for (const target of await ourMounts(paths)) left.push(`mount at ${target}`);
  for (const entry of await readdir(join(paths.directory, 'targets')).catch(() => [])) {
    left.push(`target ${entry} is left`);
  }
  for (const entry of await readdir(join(paths.directory, 'docker')).catch(() => [])) {
    left.push(`docker/${entry} is left`);
  }
  return left;
}

/**
 * Waits for the background work of starts and deletes: until `tmp/` and `trash/` are empty and every device is in use.
 */
export async function waitUntilIdle(paths: PoolPaths, boundMs = 30_000): Promise<void> {
  for (const giveUpAt = Date.now() + scaledMs(boundMs); Date.now() < giveUpAt; ) {
    const { temporary, trash } = await countContents(paths);
    if (temporary === 0 && trash === 0 && (await idleDevices(paths)) === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function idleDevices(paths: PoolPaths): Promise<number> {
  const [below, devices, mounts] = await Promise.all([
    ourDevices(paths),
    host.loops.list(),
    host.mounts.list(),
  ]);
  const isUsed = (device: LoopDevice): boolean => mounts.some((mount) => isMountOf(mount, device));
  return devices.filter(
    (device) => below.some((one) => one.device === device.path) && !isUsed(device),
  ).length;
}

/** The read-only check of an image by the checker of its filesystem. */
export const checkers = {
  ext4: (image: string) => execa('e2fsck', ['-fn', image], { reject: false }),
  xfs: (image: string) => execa('xfs_repair', ['-n', '-f', image], { reject: false }),
  btrfs: (image: string) => execa('btrfs', ['check', '--readonly', image], { reject: false }),
} as const;

/**
 * Damage that the filesystems' checkers find in images that are not attached. Images with a journal to replay or with an undo
 * log of an interrupted program (ADR 0010) are not checked: the driver recovers them when a call needs them.
 */
export async function damagedImages(paths: PoolPaths): Promise<readonly string[]> {
  const damaged: string[] = [];
  const attached = new Set((await ourDevices(paths)).map(({ image }) => image));
  for (const { id, record, imagePath } of await volumesOf(paths)) {
    if (record === undefined || record.fsType === null || attached.has(imagePath)) continue;
    const superblock = await host.filesystems[record.fsType].readSuperblock(imagePath);
    if (superblock?.state === 'needs-replay' || (await hasUndoLog(imagePath))) continue;
    const { exitCode, stdout, stderr } = await checkers[record.fsType](imagePath);
    if (exitCode === 0 || `${stdout}${stderr}`.includes('valuable metadata changes')) continue;
    damaged.push(
      `${id}: ${record.fsType} checker ended with ${String(exitCode)}: ${stdout.slice(-400)}`,
    );
  }
  return damaged;
}

async function hasUndoLog(imagePath: string): Promise<boolean> {
  const names = await readdir(dirname(imagePath));
  return names.includes(`.${basename(imagePath)}.undo`);
}

/** The text of a file; undefined if it does not exist. */
export async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}
