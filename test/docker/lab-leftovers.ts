/** Everything that a lab has, found by its name alone, so that a later run can remove the leftovers of a killed one. */
import { access, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { attempt } from '../../scripts/command.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { killAll, processesInCgroup, processesNaming, startTimeOf } from './processes.ts';

const labs = '/tmp';
const prefix = 'lcsi-';

/** The prefix of every lab's directory. It is short, since paths of unix sockets below it are limited to 107 bytes. */
export const labPrefix = join(labs, prefix);

/** Records the process that owns the lab, with its start time, since a later process may have the same ID. */
export async function claimLab(directory: string): Promise<void> {
  const startTime = (await startTimeOf(process.pid)) ?? '';
  await writeFile(ownerFile(directory), `${process.pid} ${startTime}`);
}

function ownerFile(directory: string): string {
  return join(directory, 'owner');
}

/** Removes the labs whose process has ended without removing them. */
export async function removeDeadLabs(): Promise<void> {
  for (const entry of await readdir(labs)) {
    if (!entry.startsWith(prefix)) continue;
    const directory = join(labs, entry);
    // A lab without an owner file is still being created.
    const owner = await readFile(ownerFile(directory), 'utf8').catch(() => undefined);
    if (owner === undefined) continue;
    const [pid, startTime] = owner.split(' ');
    if ((await startTimeOf(Number(pid))) !== startTime) await removeLab(directory);
  }
}

/**
 * Ends and removes everything of a lab: processes, mounts, loop devices, cgroups, network namespaces, the directory.
 * Returns the mounts and loop devices it found. There are none if every container and volume was removed before.
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
  // Lazily: a mount namespace that is ending in the background, or a copy of this one, may keep the mount busy for a while.
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
  // Before anything is unmounted: afterwards the kernel shows only a part of the images' paths.
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
