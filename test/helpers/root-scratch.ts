import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import type { Host, LoopDevice } from '../../src/host/host.ts';
import { makeRealHost } from '../../src/host/real-host.ts';

/** Tests on the real node: as root, in a scratch directory, with nothing of theirs left over. */

const isRoot = process.getuid?.() === 0;
/** `test` where loop devices and mounts can be had; elsewhere the tests are skipped. */
export const rootTest: TestFn | TestFn['skip'] = isRoot ? anyTest : anyTest.skip;

/** Says why, once a file: `rootTest` alone would skip without a word. */
export function noteSkip(): void {
  if (!isRoot) anyTest('skipped: loop devices and mounts need root', (t) => t.pass());
}

export interface Scratch {
  readonly host: Host;
  readonly directory: string;
}

/**
 * Gives `work` a host and an empty directory on a disk (not a tmpfs). Afterwards whatever is mounted below it or attached
 * to a file in it is taken away; that there was anything fails the test.
 */
export async function onScratch(
  t: ExecutionContext,
  work: (scratch: Scratch) => Promise<void>,
): Promise<void> {
  const host = makeRealHost();
  const directory = await mkdtemp('/var/tmp/loopcsi-test-');
  try {
    await work({ host, directory });
  } finally {
    const left = await clearAway(host, directory);
    await rm(directory, { recursive: true });
    t.deepEqual(left, [], 'mounts and loop devices that were left');
  }
}

async function clearAway(host: Host, directory: string): Promise<readonly string[]> {
  const left: string[] = [];
  const mounts = (await host.mounts.list()).filter(({ target }) =>
    target.startsWith(`${directory}/`),
  );
  for (const { target } of [...mounts].reverse()) {
    left.push(target);
    await host.mounts.unmount(target);
  }
  for (const device of await devicesBelow(host, directory)) {
    left.push(device.path);
    await host.loops.detach(device);
  }
  return left;
}

/** Attached devices whose image lies, or lay, below the directory. */
async function devicesBelow(host: Host, directory: string): Promise<readonly LoopDevice[]> {
  const found: LoopDevice[] = [];
  for (const device of await host.loops.list()) {
    const path = await readFile(`/sys/block/loop${device.number}/loop/backing_file`, 'utf8').catch(
      () => '',
    );
    if (path.startsWith(`${directory}/`)) found.push(device);
  }
  return found;
}

/** The names in a directory, sorted. */
export async function namesIn(...path: readonly string[]): Promise<readonly string[]> {
  return (await readdir(join(...path))).sort();
}
