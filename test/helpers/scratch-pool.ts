import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import type { FsType } from '../../src/host/host.ts';
import { GiB } from '../../src/units.ts';
import { until } from './until.ts';

/** The filesystem of a test's pool: the scratch directory's, or a separate one on a loop device. */
export type PoolFs = 'directory' | FsType;

/** Makes `DIRECTORY/pool`, and makes and mounts its filesystem if it has a separate one. */
export async function makePoolFs(
  directory: string,
  options: { poolFs?: PoolFs; poolFsBytes?: bigint; poolFsOptions?: readonly string[] },
): Promise<void> {
  const { poolFs = 'directory', poolFsBytes, poolFsOptions } = options;
  const poolPath = join(directory, 'pool');
  await mkdir(poolPath);
  if (poolFs === 'directory') return;
  const device = await attachPoolFs(directory, poolFs, poolFsBytes, poolFsOptions);
  await execa('mount', [device, poolPath]);
}

/** Makes the filesystem in `DIRECTORY/pool-fs.img`, and returns its loop device, which is not mounted. */
export async function attachPoolFs(
  directory: string,
  fsType: FsType,
  sizeBytes = 8n * GiB,
  options: readonly string[] = [],
): Promise<string> {
  const image = join(directory, 'pool-fs.img');
  await execa('truncate', ['--size', String(sizeBytes), image]);
  const quiet = fsType === 'ext4' ? ['-q', '-F'] : ['-q', '-f'];
  await execa(`mkfs.${fsType}`, [...quiet, ...options, image]);
  const { stdout } = await execa('losetup', ['--find', '--show', image]);
  return stdout;
}

/**
 * Unmounts and detaches everything below the directory, topmost first, and removes the directory. Returns the mounts and
 * devices that the test left. The pool's filesystem and that of an embedded pool do not count: they stay mounted when the
 * driver ends.
 */
export async function removeAll(directory: string): Promise<string[]> {
  const isEmbedded = (path: string): boolean =>
    path.endsWith('/pool/reflink') || path.includes('/reflink.img');
  const isPoolFs = (path: string): boolean =>
    path.endsWith('/pool') || path.includes('/pool-fs.img') || isEmbedded(path);
  const left: string[] = [];
  const mounts = (await mountsBelow(directory)).reverse();
  const devices = await devicesBelow(directory);
  // The pool's filesystem comes last: it is in use by the images on it, one of which is that of an embedded pool.
  for (const isItsTurn of [
    (path: string) => !isPoolFs(path),
    isEmbedded,
    (path: string) => isPoolFs(path) && !isEmbedded(path),
  ]) {
    for (const target of mounts.filter(isItsTurn)) {
      if (!isPoolFs(target)) left.push(`mount ${target}`);
      await unmount(target);
    }
    for (const { device, image } of devices.filter((one) => isItsTurn(one.image))) {
      if (!isPoolFs(image)) left.push(`${device} on ${image}`);
      await execa('losetup', ['--detach', device], { reject: false });
    }
  }
  return [...left, ...(await removeDirectory(directory))];
}

/** Retries: a file that was just closed, or a copy of the mount in a new mount namespace, keeps it busy for a moment. */
async function unmount(target: string): Promise<void> {
  const isDone = async (): Promise<boolean> =>
    (await execa('umount', [target], { reject: false })).exitCode === 0 ||
    !(await mountsBelow(dirname(target))).includes(target);
  await until(`${target} is unmounted`, isDone, 10_000).catch(() => undefined);
}

/** Removes nothing while something is mounted below: its files would be deleted too. Returns those mounts. */
async function removeDirectory(directory: string): Promise<readonly string[]> {
  const mounts = await mountsBelow(directory);
  if (mounts.length > 0) return mounts.map((target) => `${target}, still mounted`);
  await rm(directory, { recursive: true, force: true });
  return [];
}

/** Mounts below the directory in the mount namespace of this process, or of another one. */
export async function mountsBelow(
  directory: string,
  pid: number | 'self' = 'self',
): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/mountinfo`, 'utf8');
  return text
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((target) => target.startsWith(`${directory}/`));
}

/** IDs of processes in whose mount namespace the device is mounted. */
export async function processesMounting(device: string): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) =>
      (await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')).includes(
        ` ${deviceNumber(device)} `,
      ),
    ),
  );
  return pids.filter((_, index) => found[index]);
}

/** 7 is the major number of loop devices, the number in the name the minor one. */
function deviceNumber(device: string): string {
  return `7:${device.replace('/dev/loop', '')}`;
}

export async function devicesBelow(
  directory: string,
): Promise<readonly { device: string; image: string }[]> {
  const found: { device: string; image: string }[] = [];
  for (const name of await readdir('/sys/block')) {
    if (!name.startsWith('loop')) continue;
    const image = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
    if (image.startsWith(`${directory}/`))
      found.push({ device: `/dev/${name}`, image: image.trim() });
  }
  return found;
}

/** Loop devices whose images are on the filesystem of the loop device `poolFs`, by whatever path they were attached. */
export async function devicesOn(poolFs: string): Promise<readonly string[]> {
  const columns = ['--noheadings', '--output', 'NAME,BACK-MAJ:MIN'];
  const { stdout } = await execa('losetup', ['--list', ...columns]);
  const number = deviceNumber(poolFs);
  return stdout
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, on]) => on === number)
    .map(([device = '']) => device);
}
