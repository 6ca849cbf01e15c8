/** Creates the scratch directory of the demo, and finds and removes leftovers in it. */
import { mkdtemp, readdir, readFile, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt } from '../command.ts';

/** Enough for the data that the demo writes to its sparse images. */
const neededBytes = 1536n * 1024n * 1024n;

export interface Scratch {
  readonly directory: string;
  readonly freeBytes: () => Promise<bigint>;
}

/** Creates an empty directory below `parent`. Throws if its filesystem has too little free space. */
export async function createScratch(parent: string): Promise<Scratch> {
  const free = await freeBytesOf(parent);
  if (free < neededBytes) {
    throw new Error(
      `${parent} has only ${free / 1024n ** 2n} MiB free, but the demo needs ${neededBytes / 1024n ** 2n} MiB: set LOOPCSI_DEMO_DIR to a directory with more free space`,
    );
  }
  const directory = await mkdtemp(join(parent, 'loopcsi-demo-'));
  return { directory, freeBytes: () => freeBytesOf(directory) };
}

async function freeBytesOf(path: string): Promise<bigint> {
  const { bfree, bsize } = await statfs(path, { bigint: true });
  return bfree * bsize;
}

/** Lists mounts below the directory, and loop devices whose backing files are in it. */
export async function findLeftovers(directory: string): Promise<readonly string[]> {
  const mounts = (await mountsBelow(directory)).map((target) => `mount ${target}`);
  const devices = (await devicesBelow(directory)).map(({ device, file }) => `${device} on ${file}`);
  return [...mounts, ...devices];
}

async function mountsBelow(directory: string): Promise<readonly string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return text
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((target) => target.startsWith(`${directory}/`));
}

async function devicesBelow(
  directory: string,
): Promise<readonly { readonly device: string; readonly file: string }[]> {
  const names = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'));
  const devices = await Promise.all(
    names.map(async (name) => {
      const path = `/sys/block/${name}/loop/backing_file`;
      const file = (await readFile(path, 'utf8').catch(() => '')).trim();
      return { device: `/dev/${name}`, file };
    }),
  );
  return devices.filter(({ file }) => file.startsWith(`${directory}/`));
}

/** Unmounts, detaches and deletes everything below the directory, in case the driver could not. */
export async function forceRemove(directory: string): Promise<void> {
  for (const target of [...(await mountsBelow(directory))].reverse()) {
    await attempt('umount', [target]);
  }
  for (const { device } of await devicesBelow(directory)) {
    await attempt('losetup', ['--detach', device]);
  }
  if ((await mountsBelow(directory)).length === 0) {
    await rm(directory, { recursive: true, force: true });
  }
}
