import { randomUUID } from 'node:crypto';
import { constants as fsConstants, readlinkSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { realpath, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB } from '../../units.ts';
import { hasErrno, KernelError } from '../errors.ts';
import type { ByteRange, Capacity, Directory, Extent, Files, FilesystemFeatures } from '../host.ts';
import { constants } from '../kernel/abi.ts';
import { fallocate, renameNoReplace } from '../kernel/calls.ts';
import {
  closeHandle,
  descriptorPath,
  fsCall,
  fsync,
  openFlags,
  openHandle,
  syncPaths,
  withCachedPath,
  withOpen,
} from '../kernel/descriptor.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { requireNoProgram } from '../programs/image-lock.ts';
import { makeExtents } from './extents.ts';
import { lockFile } from './file-lock.ts';
import { imageStatus, statBlockBytes } from './image-status.ts';
import { makePaths } from './paths.ts';
import { requireNoMount } from './remove-tree.ts';

const { O_DIRECT, O_DIRECTORY, O_NOFOLLOW } = fsConstants;
/** Size of the scratch file of `probe`. */
const probeBytes = 64n * KiB;

/** Operates on files with node:fs and kernel calls. */
export function makeFiles(lane: Lane): Files {
  return {
    createImage: (path, options) => createImage(lane, path, options),
    growImage: (path, options) => growImage(lane, path, options),
    imageStatus: (path) => imageStatus(lane, path),
    requireNoProgram: (imagePath) => requireNoProgram(lane, imagePath),
    punchUnwritten: (path) => punchUnwritten(lane, path),
    sync: (...paths) => syncPaths(lane, paths),
    openDirectory: (path) => openDirectory(lane, path),
    syncOpenDirectory: ({ handle, path }) => fsync(lane, handle, path),
    resolveDirectory: (path) => resolveDirectory(lane, path),
    renameNoReplace: (from, to) => renameNoReplace(lane, from, to),
    lock: (path) => lockFile(lane, path),
    removeInSlices: (path, options) => removeInSlices(lane, path, options),
    probe: (directory) => probe(lane, directory),
    readRange: (path, range) => readRange(lane, path, range),
    writeRange: (path, offset, bytes) => writeRange(lane, path, offset, bytes),
    capacity: (path) => capacity(lane, path),
    // Spread last: adding properties to an object after a spread is slow, and a host is created for every operation.
    ...makePaths(lane),
  };
}

async function openDirectory(lane: Lane, path: string): Promise<Directory> {
  const handle = await openHandle(lane, path, openFlags.read | O_DIRECTORY);
  return { path, handle, close: () => closeHandle(lane, handle, path) };
}

async function createImage(
  lane: Lane,
  path: string,
  options: { sizeBytes: bigint; allocate: boolean },
): Promise<void> {
  await withOpen(lane, path, openFlags.createNew, async (handle) => {
    try {
      await resize(lane, handle, path, options.sizeBytes);
      if (options.allocate) await allocate(lane, handle, path, options.sizeBytes);
    } catch (error) {
      await fsCall(lane, 'unlink', path, () => unlink(path));
      throw error;
    }
  });
}

async function growImage(
  lane: Lane,
  path: string,
  options: { sizeBytes: bigint; allocate: boolean },
): Promise<void> {
  await requireNoProgram(lane, path);
  await withOpen(lane, path, openFlags.readWrite, async (handle) => {
    const { size } = await fsCall(lane, 'fstat', path, () => handle.stat({ bigint: true }));
    const wanted = options.sizeBytes > size ? options.sizeBytes : size;
    if (options.allocate) await allocateUpTo(lane, handle, path, { size, wanted });
    if (wanted > size) await resize(lane, handle, path, wanted);
    await fsync(lane, handle, path);
  });
}

async function punchUnwritten(lane: Lane, path: string): Promise<void> {
  const mode = constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE;
  const unwritten: Extent[] = [];
  for await (const batch of makeExtents(lane).map(path)) {
    unwritten.push(
      ...batch.filter(({ flags }) => (flags & constants.FIEMAP_EXTENT_UNWRITTEN) !== 0),
    );
  }
  if (unwritten.length === 0) return;
  await withOpen(lane, path, openFlags.readWrite, async ({ fd }) => {
    for (const { logical, length } of unwritten) {
      await fallocate(lane, fd, { mode, offset: logical, length }, path);
    }
  });
}

async function resolveDirectory(lane: Lane, path: string): Promise<string> {
  const cached = withCachedPath(path, openFlags.directoryPathFollowed, (fd) =>
    readlinkSync(descriptorPath(fd)),
  );
  // For a directory that was removed or is outside this process's root, the kernel returns text that is not a path.
  const isPath = cached?.startsWith('/') === true && !cached.endsWith(' (deleted)');
  return isPath ? cached : fsCall(lane, 'realpath', path, () => realpath(path));
}

async function removeInSlices(
  lane: Lane,
  path: string,
  options: { sliceBytes: bigint; signal: AbortSignal },
): Promise<void> {
  try {
    await requireNoProgram(lane, path);
    const { sizeBytes, allocatedBytes } = await imageStatus(lane, path);
    // A file with few blocks is freed by a single unlink, whatever its size.
    if (allocatedBytes > options.sliceBytes) await truncateInSlices(lane, path, sizeBytes, options);
    options.signal.throwIfAborted();
    await fsCall(lane, 'unlink', path, () => unlink(path), { timeoutMs: imageTimeoutMs });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

async function truncateInSlices(
  lane: Lane,
  path: string,
  sizeBytes: bigint,
  options: { sliceBytes: bigint; signal: AbortSignal },
): Promise<void> {
  await withOpen(lane, path, openFlags.readWrite | O_NOFOLLOW, async (handle) => {
    requireNoMount(handle.fd, path);
    for (let left = sizeBytes - options.sliceBytes; left > 0n; left -= options.sliceBytes) {
      options.signal.throwIfAborted();
      await resize(lane, handle, path, left);
    }
  });
}

async function probe(lane: Lane, directory: string): Promise<FilesystemFeatures> {
  return withScratchFile(lane, directory, async (handle, path) => {
    await resize(lane, handle, path, probeBytes);
    const directIo = await isSupported(() =>
      withOpen(lane, path, openFlags.read | O_DIRECT, () => Promise.resolve()),
    );
    const mode = constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE;
    const range = { mode, offset: 0n, length: probeBytes };
    return {
      directIo,
      discard: await isSupported(() => fallocate(lane, handle.fd, range, path)),
      renameNoReplace: await isSupported(async () => {
        // Rename to a name that does not exist: for an existing name, the kernel would fail without calling the
        // filesystem.
        const renamed = `${path}-renamed`;
        await renameNoReplace(lane, path, renamed);
        await renameNoReplace(lane, renamed, path);
      }),
    };
  });
}

async function isSupported(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasErrno(error, 'EINVAL', 'EOPNOTSUPP', 'ENOSYS')) return false;
    throw error;
  }
}

/** Creates a file in the directory, passes it to `work` and removes it afterwards. */
export async function withScratchFile<T>(
  lane: Lane,
  directory: string,
  work: (handle: FileHandle, path: string) => Promise<T>,
): Promise<T> {
  const path = join(directory, `.probe-${randomUUID()}`);
  return withOpen(lane, path, openFlags.createNew, async (handle) => {
    try {
      return await work(handle, path);
    } finally {
      await fsCall(lane, 'unlink', path, () => unlink(path));
    }
  });
}

async function readRange(
  lane: Lane,
  path: string,
  {
    offset,
    length,
    into: buffer = Buffer.allocUnsafe(length),
  }: { offset: bigint; length: number; into?: Buffer | undefined },
): Promise<Buffer> {
  return withOpen(lane, path, openFlags.read, async (handle) => {
    let filled = 0;
    while (filled < length) {
      const position = Number(offset) + filled;
      const { bytesRead } = await fsCall(lane, 'read', path, () =>
        handle.read(buffer, filled, length - filled, position),
      );
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  });
}

async function writeRange(
  lane: Lane,
  path: string,
  offset: bigint,
  bytes: Uint8Array,
): Promise<void> {
  await withOpen(lane, path, openFlags.readWrite, async (handle) => {
    let written = 0;
    while (written < bytes.length) {
      const position = Number(offset) + written;
      const { bytesWritten } = await fsCall(lane, 'write', path, () =>
        handle.write(bytes, written, bytes.length - written, position),
      );
      written += bytesWritten;
    }
  });
}

/** The capacity of the filesystem that contains `path`. */
export async function capacity(lane: Lane, path: string): Promise<Capacity> {
  const found = await fsCall(lane, 'statfs', path, () => statfs(path, { bigint: true }));
  return {
    totalBytes: found.blocks * found.bsize,
    freeBytes: found.bfree * found.bsize,
    availableBytes: found.bavail * found.bsize,
    totalInodes: found.files,
    freeInodes: found.ffree,
  };
}

async function resize(
  lane: Lane,
  handle: FileHandle,
  path: string,
  sizeBytes: bigint,
): Promise<void> {
  const size = Number(sizeBytes);
  if (!Number.isSafeInteger(size) || size < 0) throw new KernelError('ftruncate', 'EFBIG', path);
  await fsCall(lane, 'ftruncate', path, () => handle.truncate(size), {
    timeoutMs: imageTimeoutMs,
  });
}

/**
 * Allocates blocks up to `wanted` bytes without changing the size yet: otherwise ext4 would grow the file until it ran
 * out of space. After a failure, the blocks allocated past the end of the file are freed, so that the size and content
 * are unchanged.
 */
async function allocateUpTo(
  lane: Lane,
  handle: FileHandle,
  path: string,
  { size, wanted }: { size: bigint; wanted: bigint },
): Promise<void> {
  const mode = constants.FALLOC_FL_KEEP_SIZE;
  try {
    await requireFreeSpace(lane, handle, path, wanted);
    // One hole at a time: XFS requires free space for the whole range, even for parts that are already allocated.
    for (const hole of await listHoles(lane, path, wanted)) {
      await fallocate(lane, handle.fd, { mode, ...hole }, path);
    }
  } catch (error) {
    await resize(lane, handle, path, size);
    throw error;
  }
}

async function listHoles(
  lane: Lane,
  path: string,
  sizeBytes: bigint,
): Promise<readonly ByteRange[]> {
  const holes: ByteRange[] = [];
  let offset = 0n;
  const addHoleUpTo = (end: bigint): void => {
    if (end > offset) holes.push({ offset, length: end - offset });
  };
  try {
    for await (const batch of makeExtents(lane).map(path)) {
      for (const { logical, length } of batch) {
        addHoleUpTo(logical < sizeBytes ? logical : sizeBytes);
        offset = logical + length;
      }
    }
  } catch (error) {
    // The filesystem does not support FIEMAP: allocate the whole file.
    if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
    return [{ offset: 0n, length: sizeBytes }];
  }
  addHoleUpTo(sizeBytes);
  return holes;
}

/** Allocates all blocks of a new file. */
async function allocate(
  lane: Lane,
  handle: FileHandle,
  path: string,
  sizeBytes: bigint,
): Promise<void> {
  await requireFreeSpace(lane, handle, path, sizeBytes);
  await fallocate(lane, handle.fd, { mode: 0, offset: 0n, length: sizeBytes }, path);
}

/**
 * Throws ENOSPC before anything is allocated. If an allocation ran out of space midway, everything else on the
 * filesystem would have no space until it failed.
 */
async function requireFreeSpace(
  lane: Lane,
  handle: FileHandle,
  path: string,
  sizeBytes: bigint,
): Promise<void> {
  const { blocks } = await fsCall(lane, 'fstat', path, () => handle.stat({ bigint: true }));
  const missing = sizeBytes - blocks * statBlockBytes;
  if (missing > (await capacity(lane, path)).freeBytes)
    throw new KernelError('fallocate', 'ENOSPC', path);
}
