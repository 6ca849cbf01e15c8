import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Host } from '../../src/host/host.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import { devicesBelow, mountsBelow } from './scratch-pool.ts';
import { until } from './until.ts';

/** Tests on the real node: they run as root in a scratch directory and must leave no mount or device. */

export interface Scratch {
  readonly host: Host;
  readonly directory: string;
}

/**
 * Gives `work` a host and an empty directory on a disk (not a tmpfs). Afterwards unmounts and detaches everything below the
 * directory, and fails the test if anything was left.
 */
export async function onScratch(
  t: ExecutionContext,
  work: (scratch: Scratch) => Promise<void>,
): Promise<void> {
  const host = makeRealHost();
  const directory = await mkdtemp(
    join(process.env['LOOPCSI_TEST_SCRATCH'] ?? '/var/tmp', 'loopcsi-test-'),
  );
  try {
    await work({ host, directory });
  } finally {
    const left = await removeLeftovers(host, directory);
    await rm(directory, { recursive: true });
    t.deepEqual(left, [], 'mounts and loop devices that were left');
  }
}

async function removeLeftovers(host: Host, directory: string): Promise<readonly string[]> {
  const left: string[] = [];
  for (const target of (await mountsBelow(directory)).reverse()) {
    left.push(target);
    await host.mounts.unmount(target);
  }
  for (const { device, image } of await devicesBelow(directory)) {
    // Detached already: a container that is starting has a copy of the mount for a moment.
    if ((await isDetaching(device)) && (await isDetachedSoon(directory, image))) continue;
    left.push(`${device} on ${image}`);
    await execa('losetup', ['--detach', device], { reject: false });
  }
  return left;
}

/** Whether the kernel detaches the device at its last close. */
async function isDetaching(device: string): Promise<boolean> {
  const path = `/sys/block/${basename(device)}/loop/autoclear`;
  return (await readFile(path, 'utf8').catch(() => '1')).trim() === '1';
}

async function isDetachedSoon(directory: string, image: string): Promise<boolean> {
  const isDetached = async (): Promise<boolean> =>
    (await devicesBelow(directory)).every((one) => one.image !== image);
  return until(`${image} is detached`, isDetached, 20_000).then(
    () => true,
    () => false,
  );
}

/** The names in a directory, sorted. */
export async function namesIn(...path: readonly string[]): Promise<readonly string[]> {
  return (await readdir(join(...path))).sort();
}
