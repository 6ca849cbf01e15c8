import { join } from 'node:path';
import { runConcurrently } from '../../async.ts';
import { hasErrno, isStorageFailure } from '../../host/errors.ts';
import type { FileIdentity, Host } from '../../host/host.ts';
import type { PoolContents } from './contents.ts';
import { areaIn, entryFiles, imageFile } from './layout.ts';

/** Allocated bytes of the images of one pool, by id; the key of a snapshot is `snapshot ID`. */
export interface ImageUsage {
  /** The time of the measurement, in milliseconds of performance.now(). */
  readonly atMs: number;
  readonly allocated: ReadonlyMap<string, bigint>;
  /** Bytes that no other image shares; less than allocated only on a pool with reflink. */
  readonly exclusive: ReadonlyMap<string, bigint>;
  /** Images that could be read; a loop device belongs to the image with the inode of its backing file. */
  readonly identities: ReadonlyMap<string, FileIdentity>;
}

/** Number of images that are measured concurrently; each may wait for the disk. */
const imagesAtOnce = 16;

/**
 * Measures all images of a pool. A deleted image has no blocks. An image whose inode cannot be read counts as having none: it must
 * not prevent the measurement, and its blocks then count as used by other files.
 */
export async function measureImages(pool: PoolContents, host: Host): Promise<ImageUsage> {
  const allocated = new Map<string, bigint>();
  const exclusive = new Map<string, bigint>();
  const sharing = idsWithSharedBlocks(pool);
  const { root } = pool;
  const identities = new Map<string, FileIdentity>();
  const allocatedOf = (id: string, path: string): Promise<bigint> =>
    bytesOrZero(pool, async () => {
      const { device, inode, allocatedBytes } = await host.files.imageStatus(path);
      identities.set(id, { device, inode });
      return allocatedBytes;
    });
  const exclusiveOf = (path: string): Promise<bigint> =>
    bytesOrZero(pool, () => host.extents.exclusiveBytes(path));
  const jobs: (() => Promise<void>)[] = [];
  for (const { record, imagePath } of pool.images()) {
    const { id } = record;
    jobs.push(async () => {
      const bytes = await allocatedOf(id, imagePath);
      allocated.set(id, bytes);
      exclusive.set(id, sharing.has(id) ? await exclusiveOf(imagePath) : bytes);
    });
  }
  for (const { id, state } of pool.snapshots.values()) {
    const file = state === 'ready' ? imageFile : entryFiles.partialImage;
    jobs.push(async () => {
      const path = join(areaIn(root, 'snapshots'), id, file);
      const key = `snapshot ${id}`;
      allocated.set(key, await allocatedOf(key, path));
    });
  }
  await runConcurrently(jobs, imagesAtOnce);
  return { atMs: performance.now(), allocated, exclusive, identities };
}

function idsWithSharedBlocks(pool: PoolContents): ReadonlySet<string> {
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

async function bytesOrZero(pool: PoolContents, measure: () => Promise<bigint>): Promise<bigint> {
  try {
    return await measure();
  } catch (error) {
    // The whole disk may have failed.
    if (isStorageFailure(error)) pool.requestWriteProbe();
    else if (!hasErrno(error, 'ENOENT')) throw error;
    return 0n;
  }
}
