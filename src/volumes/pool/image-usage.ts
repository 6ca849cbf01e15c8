import { join } from 'node:path';
import { runConcurrently } from '../../async.ts';
import { hasErrno, isStorageFailure } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { PoolContents } from './contents.ts';
import { entryFiles, imageFile } from './layout.ts';

/** What the images of one pool take of its filesystem, in bytes, by id; snapshots as `snapshot ID`. */
export interface Measured {
  /** When, in milliseconds of performance.now(). */
  readonly atMs: number;
  readonly allocated: ReadonlyMap<string, bigint>;
  /** Bytes no other image shares; differs from allocated only on a reflink pool. */
  readonly exclusive: ReadonlyMap<string, bigint>;
}

/** Images looked at together; each may wait for the disk. */
const looksAtOnce = 16;

/**
 * Asks the pool's filesystem. An image that is gone has no blocks. Neither has one whose disk cannot read its inode: it must not keep
 * the pool from being measured, and its blocks then count as used by others.
 */
export async function measureImages(pool: PoolContents, host: Host): Promise<Measured> {
  const allocated = new Map<string, bigint>();
  const exclusive = new Map<string, bigint>();
  const sharing = idsThatMayShare(pool);
  const { root } = pool;
  const allocatedOf = (path: string): Promise<bigint> =>
    bytesOrNone(pool, async () => (await host.files.imageStatus(path)).allocatedBytes);
  const exclusiveOf = (path: string): Promise<bigint> =>
    bytesOrNone(pool, () => host.extents.exclusiveBytes(path));
  const jobs: (() => Promise<void>)[] = [];
  for (const { record, imagePath } of pool.images()) {
    const { id } = record;
    jobs.push(async () => {
      const bytes = await allocatedOf(imagePath);
      allocated.set(id, bytes);
      exclusive.set(id, sharing.has(id) ? await exclusiveOf(imagePath) : bytes);
    });
  }
  for (const { id, state } of pool.snapshots.values()) {
    const file = state === 'ready' ? imageFile : entryFiles.partialImage;
    jobs.push(async () => {
      const path = join(root, 'snapshots', id, file);
      allocated.set(`snapshot ${id}`, await allocatedOf(path));
    });
  }
  await runConcurrently(jobs, looksAtOnce);
  return { atMs: performance.now(), allocated, exclusive };
}

function idsThatMayShare(pool: PoolContents): ReadonlySet<string> {
  const ids = new Set<string>();
  if (pool.abilities?.reflink !== true) return ids;
  for (const { sourceVolumeId } of pool.snapshots.values()) ids.add(sourceVolumeId);
  for (const { id, source } of pool.volumes.values()) {
    if (source === null) continue;
    ids.add(id);
    ids.add(source.id);
  }
  return ids;
}

async function bytesOrNone(pool: PoolContents, ask: () => Promise<bigint>): Promise<bigint> {
  try {
    return await ask();
  } catch (error) {
    // Perhaps it is the whole disk.
    if (isStorageFailure(error)) pool.suspect();
    else if (!hasErrno(error, 'ENOENT')) throw error;
    return 0n;
  }
}
