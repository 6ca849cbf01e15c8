import type { BigIntStats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { fsCall } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** A path in a directory tree. Names are bytes: other software may not use UTF-8. */
export interface TreeEntry {
  readonly path: Buffer;
  readonly stats: BigIntStats;
}

/** Entries whose status is read in one pass through the gate. */
const batchEntries = 256;

export function joinBytes(directory: Buffer, name: Uint8Array): Buffer {
  return Buffer.concat([directory, Buffer.from('/'), name]);
}

export function listNames(lane: Lane, directory: Buffer): Promise<readonly Buffer[]> {
  return fsCall(lane, 'readdir', directory.toString(), async () =>
    (await readdir(directory, { encoding: 'buffer' })).toSorted((a, b) => Buffer.compare(a, b)),
  );
}

export function statusOf(lane: Lane, path: Buffer): Promise<BigIntStats> {
  return fsCall(lane, 'lstat', path.toString(), () => lstat(path, { bigint: true }));
}

/** Yields everything below a directory, and does not follow symlinks. The directory itself is not included. */
export async function* walkTree(
  lane: Lane,
  root: Buffer,
  signal: AbortSignal,
): AsyncGenerator<TreeEntry> {
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const names = await listNames(lane, directory);
    for (let from = 0; from < names.length; from += batchEntries) {
      signal.throwIfAborted();
      const parent = directory;
      const paths = names.slice(from, from + batchEntries).map((name) => joinBytes(parent, name));
      for (const entry of await readStatuses(lane, directory, paths)) {
        yield entry;
        if (entry.stats.isDirectory()) pending.push(entry.path);
      }
    }
  }
}

function readStatuses(
  lane: Lane,
  directory: Buffer,
  paths: readonly Buffer[],
): Promise<readonly TreeEntry[]> {
  return fsCall(lane, 'lstat', `an entry of ${directory.toString()}`, async () => {
    const entries: TreeEntry[] = [];
    for (const path of paths) entries.push({ path, stats: await lstat(path, { bigint: true }) });
    return entries;
  });
}
