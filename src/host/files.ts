import { randomUUID } from 'node:crypto';
import { constants as fsConstants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB } from '../units.ts';
import { closeHandle, fsCall, fsync, openFlags, openHandle, withOpen } from './descriptor.ts';
import { hasErrno, KernelError } from './errors.ts';
import { makeExtents } from './extents.ts';
import type { Capacity, Extent, Files, ImageStatus } from './host.ts';
import { fallocate, flockNow, renameNoReplace } from './kernel.ts';
import { constants } from './kernel-abi.ts';

const { O_DIRECT } = fsConstants;
/** Size of the file that abilities are tried on. */
const probeBytes = 64n * KiB;

/** st_blocks counts these, whatever the filesystem's block size. */
const statBlockBytes = 512n;
/** Freeing the blocks of one slice of a heavily scattered image can take a while. */
const truncateBoundMs = 10 * 60_000;

/** Files by node:fs and kernel calls. */
export function makeFiles(): Files {
  return {
    createImage,
    growImage,
    imageStatus,
    releaseUnwritten,
    sync: (path) => withOpen(path, openFlags.read, (handle) => fsync(handle, path)),
    renameNoReplace,
    lock,
    removeInSlices,
    probe,
    capacity,
  };
}

async function createImage(
  path: string,
  options: { sizeBytes: bigint; allocate: boolean },
): Promise<void> {
  await withOpen(path, openFlags.createNew, async (handle) => {
    try {
      await resize(handle, path, options.sizeBytes);
      if (options.allocate) await allocate(handle, path, options.sizeBytes);
    } catch (error) {
      await fsCall('unlink', path, () => unlink(path));
      throw error;
    }
  });
}

async function growImage(
  path: string,
  options: { sizeBytes: bigint; allocate: boolean },
): Promise<void> {
  await withOpen(path, openFlags.readWrite, async (handle) => {
    const { size } = await fsCall('fstat', path, () => handle.stat({ bigint: true }));
    const wanted = options.sizeBytes > size ? options.sizeBytes : size;
    if (options.allocate) await allocateBehind(handle, path, { size, wanted });
    if (wanted > size) await resize(handle, path, wanted);
    await fsync(handle, path);
  });
}

async function releaseUnwritten(path: string): Promise<void> {
  const mode = constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE;
  const unwritten: Extent[] = [];
  for await (const batch of makeExtents().map(path)) {
    unwritten.push(
      ...batch.filter(({ flags }) => (flags & constants.FIEMAP_EXTENT_UNWRITTEN) !== 0),
    );
  }
  if (unwritten.length === 0) return;
  await withOpen(path, openFlags.readWrite, async ({ fd }) => {
    for (const { logical, length } of unwritten) {
      await fallocate(fd, { mode, offset: logical, length }, path);
    }
  });
}

async function imageStatus(path: string): Promise<ImageStatus> {
  const { dev, ino, size, blocks } = await fsCall('stat', path, () => stat(path, { bigint: true }));
  return { device: dev, inode: ino, sizeBytes: size, allocatedBytes: blocks * statBlockBytes };
}

async function lock(path: string): Promise<{ release(): Promise<void> }> {
  // The descriptor is the lock, so it stays open; being close-on-exec, no child keeps it alive.
  const handle = await openHandle(path, openFlags.create);
  try {
    flockNow(handle.fd, path);
  } catch (error) {
    await handle.close();
    throw error;
  }
  let released = false;
  return {
    release: async () => {
      if (released) return;
      released = true;
      await closeHandle(handle, path);
    },
  };
}

async function removeInSlices(
  path: string,
  options: { sliceBytes: bigint; signal: AbortSignal },
): Promise<void> {
  try {
    await withOpen(path, openFlags.readWrite, async (handle) => {
      const { size } = await fsCall('fstat', path, () => handle.stat({ bigint: true }));
      for (let left = size - options.sliceBytes; left > 0n; left -= options.sliceBytes) {
        options.signal.throwIfAborted();
        await resize(handle, path, left);
      }
    });
    options.signal.throwIfAborted();
    await fsCall('unlink', path, () => unlink(path), { boundMs: truncateBoundMs });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

async function probe(directory: string): Promise<{ directIo: boolean; discard: boolean }> {
  return withScratchFile(directory, async (handle, path) => {
    await resize(handle, path, probeBytes);
    const directIo = await isPossible(() =>
      withOpen(path, openFlags.read | O_DIRECT, () => Promise.resolve()),
    );
    const mode = constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE;
    const range = { mode, offset: 0n, length: probeBytes };
    return { directIo, discard: await isPossible(() => fallocate(handle.fd, range, path)) };
  });
}

async function isPossible(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasErrno(error, 'EINVAL', 'EOPNOTSUPP', 'ENOSYS')) return false;
    throw error;
  }
}

/** Gives `work` a new file in the directory, which is removed afterwards. */
export async function withScratchFile<T>(
  directory: string,
  work: (handle: FileHandle, path: string) => Promise<T>,
): Promise<T> {
  const path = join(directory, `.probe-${randomUUID()}`);
  return withOpen(path, openFlags.createNew, async (handle) => {
    try {
      return await work(handle, path);
    } finally {
      await fsCall('unlink', path, () => unlink(path));
    }
  });
}

async function capacity(path: string): Promise<Capacity> {
  const found = await fsCall('statfs', path, () => statfs(path, { bigint: true }));
  return {
    totalBytes: found.blocks * found.bsize,
    freeBytes: found.bfree * found.bsize,
    availableBytes: found.bavail * found.bsize,
    totalInodes: found.files,
    freeInodes: found.ffree,
  };
}

async function resize(handle: FileHandle, path: string, sizeBytes: bigint): Promise<void> {
  const size = Number(sizeBytes);
  if (!Number.isSafeInteger(size) || size < 0) throw new KernelError('ftruncate', 'EFBIG', path);
  await fsCall('ftruncate', path, () => handle.truncate(size), { boundMs: truncateBoundMs });
}

/**
 * Allocates up to `wanted` without growing the file yet: ext4 allocates and grows as far as it gets before it says that there
 * is no room. What it took behind the end is given back then, so that the image is as it was.
 */
async function allocateBehind(
  handle: FileHandle,
  path: string,
  { size, wanted }: { size: bigint; wanted: bigint },
): Promise<void> {
  const mode = constants.FALLOC_FL_KEEP_SIZE;
  try {
    await requireRoom(handle, path, wanted);
    // Hole by hole: XFS asks for as much room as the range is long, also where it is allocated already.
    for (const hole of await holesOf(path, wanted)) {
      await fallocate(handle.fd, { mode, ...hole }, path);
    }
  } catch (error) {
    await resize(handle, path, size);
    throw error;
  }
}

async function holesOf(
  path: string,
  sizeBytes: bigint,
): Promise<readonly { readonly offset: bigint; readonly length: bigint }[]> {
  const holes: { offset: bigint; length: bigint }[] = [];
  let offset = 0n;
  const upTo = (end: bigint): void => {
    if (end > offset) holes.push({ offset, length: end - offset });
  };
  try {
    for await (const batch of makeExtents().map(path)) {
      for (const { logical, length } of batch) {
        upTo(logical < sizeBytes ? logical : sizeBytes);
        offset = logical + length;
      }
    }
  } catch (error) {
    // A filesystem without extent maps: all of it, then.
    if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
    return [{ offset: 0n, length: sizeBytes }];
  }
  upTo(sizeBytes);
  return holes;
}

/** fallocate(2) of a new file. */
async function allocate(handle: FileHandle, path: string, sizeBytes: bigint): Promise<void> {
  await requireRoom(handle, path, sizeBytes);
  await fallocate(handle.fd, { mode: 0, offset: 0n, length: sizeBytes }, path);
}

/** A filesystem that finds out on the way has taken all there was from everybody until it gives up. */
async function requireRoom(handle: FileHandle, path: string, sizeBytes: bigint): Promise<void> {
  const { blocks } = await fsCall('fstat', path, () => handle.stat({ bigint: true }));
  const missing = sizeBytes - blocks * statBlockBytes;
  if (missing > (await capacity(path)).freeBytes)
    throw new KernelError('fallocate', 'ENOSPC', path);
}
