/** What a lab has outside its directory, found by its name alone: a later run takes away what a killed one left. */
import { access, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { attempt } from '../../scripts/command.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { killAll, processesInCgroup, processesNaming, startTimeOf } from './processes.ts';

const labs = '/tmp';
const prefix = 'lcsi-';

/** Start of the path of every lab's directory. Short: unix sockets lie below it, and their paths end at 107 bytes. */
export const labPrefix = join(labs, prefix);

/** Notes whose lab it is: this process, told from a later one of the same id by its start. */
export async function claimLab(directory: string): Promise<void> {
  const startTime = (await startTimeOf(process.pid)) ?? '';
  await writeFile(ownerFile(directory), `${process.pid} ${startTime}`);
}

function ownerFile(directory: string): string {
  return join(directory, 'owner');
}

/** Removes the labs whose process has ended without doing so. */
export async function removeDeadLabs(): Promise<void> {
  for (const entry of await readdir(labs)) {
    if (!entry.startsWith(prefix)) continue;
    const directory = join(labs, entry);
    // Without a note it is only being made.
    const owner = await readFile(ownerFile(directory), 'utf8').catch(() => undefined);
    if (owner === undefined) continue;
    const [pid, startTime] = owner.split(' ');
    if ((await startTimeOf(Number(pid))) !== startTime) await removeLab(directory);
  }
}

/**
 * Ends and removes whatever there is of a lab: processes, mounts, loop devices, cgroups, network namespaces, the directory.
 * Answers the mounts and loop devices: where every container and volume was removed before, there are none.
 */
export async function removeLab(directory: string): Promise<readonly string[]> {
  const name = basename(directory);
  const spaces = await networkSpaces(name);
  await killAll(`the processes of ${name}`, async () => [
    ...(await processesInCgroup(name)),
    ...(await processesNaming(`${directory}/`)),
    ...(await Promise.all(spaces.map(processesIn))).flat(),
  ]);
  const left = await takeAway(directory);
  await removeCgroups(name);
  for (const space of spaces) await attempt('ip', ['netns', 'delete', space]);
  // Lazily: a mount namespace that ends in the background, or was copied from this one by others, may hold it for a while.
  await attempt('umount', ['--recursive', '--lazy', directory]);
  await rm(directory, { recursive: true, force: true });
  return left;
}

async function networkSpaces(name: string): Promise<readonly string[]> {
  const all = await readdir('/run/netns').catch(() => []);
  return all.filter((one) => one.startsWith(`${name}-`));
}

async function processesIn(space: string): Promise<readonly number[]> {
  const { stdout } = await attempt('ip', ['netns', 'pids', space]);
  return stdout.split('\n').filter(Boolean).map(Number);
}

async function takeAway(directory: string): Promise<readonly string[]> {
  const left: string[] = [];
  // Before anything is unmounted: afterwards the kernel knows images by half of their path.
  const devices = await devicesBelow(directory);
  for (const target of (await mountsBelow(directory)).reverse()) {
    left.push(`mount ${target}`);
    await attempt('umount', ['--lazy', target]);
  }
  for (const { device, image } of devices) {
    left.push(`${device} on ${image}`);
    await attempt('losetup', ['--detach', device]);
  }
  return left;
}

async function removeCgroups(name: string): Promise<void> {
  const root = '/sys/fs/cgroup';
  const hierarchies = await access(join(root, 'cgroup.controllers')).then(
    () => [root],
    async () => (await readdir(root)).map((one) => join(root, one)),
  );
  for (const hierarchy of hierarchies) {
    const top = join(hierarchy, name);
    const below = await readdir(top, { recursive: true, withFileTypes: true }).catch(() => []);
    const directories = below
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
    for (const one of [top, ...directories.sort()].reverse())
      await rmdir(one).catch(() => undefined);
  }
}
