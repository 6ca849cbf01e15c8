import { close, closeSync, constants as fsConstants, open as openCallback } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { KernelError, StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { constants } from './abi.ts';
import { openCached } from './calls.ts';
import { type GateOptions, gate } from './gate.ts';

/** Files and directories by descriptor: opened close-on-exec, always closed, every step through the gate. */

const { O_RDONLY, O_RDWR, O_DIRECTORY, O_NOFOLLOW, O_EXCL, O_CREAT } = fsConstants;
const { O_CLOEXEC, O_PATH } = constants;

export const openFlags = {
  read: O_RDONLY | O_CLOEXEC,
  readWrite: O_RDWR | O_CLOEXEC,
  /** KernelError EEXIST if it exists. */
  createNew: O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
  create: O_RDWR | O_CREAT | O_CLOEXEC,
  /** A block device that nothing else has claimed; EBUSY otherwise. */
  exclusive: O_RDONLY | O_EXCL | O_CLOEXEC,
  directory: O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** The same through the path of a descriptor, which is a symlink. */
  directoryFollowed: O_RDONLY | O_DIRECTORY | O_CLOEXEC,
  /** A directory, O_PATH: nothing is read, and a symlink is refused with ENOTDIR. */
  directoryPath: O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** The same, but a symlink in the last component is followed. */
  directoryPathFollowed: O_PATH | O_DIRECTORY | O_CLOEXEC,
  /** Any file, O_PATH; a symlink is followed. */
  pathFollowed: O_PATH | O_CLOEXEC,
  /** Any file, O_PATH; a symlink itself is opened. */
  path: O_PATH | O_NOFOLLOW | O_CLOEXEC,
} as const;

/** A blocking call of node:fs, through the gate. A failure is a KernelError. */
export async function fsCall<T>(
  lane: Lane,
  name: string,
  subject: string,
  work: (threads: number) => Promise<T>,
  options?: GateOptions<T>,
): Promise<T> {
  try {
    return await gate.run(lane, name, work, options);
  } catch (error) {
    throw kernelErrorOf(error, name, subject);
  }
}

/** Converts an error of node:fs to a KernelError; returns any other error unchanged. */
export function kernelErrorOf(error: unknown, name: string, subject: string): unknown {
  if (error instanceof KernelError || !(error instanceof Error)) return error;
  if (!('code' in error) || typeof error.code !== 'string' || !('syscall' in error)) return error;
  return new KernelError(name, error.code, subject, { cause: error });
}

/** Opens `path` for the caller to close; prefer `withOpen`. A new file gets `mode`. */
export function openHandle(
  lane: Lane,
  path: string,
  flags: number,
  mode = 0o600,
): Promise<FileHandle> {
  return fsCall(lane, 'open', path, () => open(path, flags, mode), {
    late: (handle) => void closeQuietly(lane, handle, path),
  });
}

/** Opens `path`, passes the handle to `work`, and always closes it. A new file gets mode 0600. */
export async function withOpen<T>(
  lane: Lane,
  path: string,
  flags: number,
  work: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  const handle = await openHandle(lane, path, flags);
  let result: T;
  try {
    result = await work(handle);
  } catch (error) {
    // Report the first failure.
    await closeQuietly(lane, handle, path);
    throw error;
  }
  await closeHandle(lane, handle, path);
  return result;
}

/**
 * Closes a handle of `openHandle`. The last close of a device may write back, so it passes the gate too; while a call
 * is stuck, the handle is closed after it has returned (`Gate.runEventually`).
 */
export async function closeHandle(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  try {
    await gate.runEventually(lane, 'close', () => handle.close());
  } catch (error) {
    throw kernelErrorOf(error, 'close', path);
  }
}

/** The same, ignoring a failure: the descriptor is closed in any case. */
export async function closeQuietly(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  await closeHandle(lane, handle, path).catch(() => undefined);
}

const openDescriptor = promisify(openCallback);

const closeDescriptor = promisify(close);

/** Closes a descriptor through the gate. Failures are ignored: the descriptor is closed in any case. */
export async function closeLater(
  lane: Lane,
  fd: number,
  options?: { readonly timeoutMs?: number },
): Promise<void> {
  await gate
    .runEventually(lane, 'close', () => closeDescriptor(fd), options)
    .catch(() => undefined);
}

/**
 * Passes a descriptor to `work` and closes it afterwards. An O_PATH descriptor is closed at once: it is used only by
 * the calls in `work`. Other descriptors are closed through the gate: the close may be the last use of a lazily
 * unmounted filesystem, which is then written back. So is any descriptor used by a stuck call, whose number must stay
 * taken.
 */
export async function closingAfter<T>(
  lane: Lane,
  fd: number,
  { isPathOnly }: { readonly isPathOnly: boolean },
  work: (fd: number) => Promise<T>,
): Promise<T> {
  let isStuck = false;
  try {
    return await work(fd);
  } catch (error) {
    isStuck = error instanceof StuckError;
    throw error;
  } finally {
    if (isPathOnly && !isStuck) closeSync(fd);
    else await closeLater(lane, fd);
  }
}

/** Opens a path as a descriptor number, passes it to `work`, and always closes it. */
export async function withDescriptor<T>(
  lane: Lane,
  path: string,
  flags: number,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  const isPathOnly = (flags & O_PATH) !== 0;
  const fd =
    (isPathOnly ? openCached(constants.AT_FDCWD, path, { flags }) : undefined) ??
    (await fsCall(lane, 'open', path, () => openDescriptor(path, flags), {
      late: (opened) => void closeLater(lane, opened),
    }));
  return closingAfter(lane, fd, { isPathOnly }, work);
}

/** Writing back the dirty pages of a large image can take minutes. */
export const syncTimeoutMs = 10 * 60_000;

/** fsync of an open file, directory or device. */
export async function fsync(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  await fsCall(lane, 'fsync', path, () => handle.sync(), { timeoutMs: syncTimeoutMs });
}

/** fsync of these paths, concurrently: a filesystem with one journal then writes it once for all of them. */
export async function syncPaths(lane: Lane, paths: readonly string[]): Promise<void> {
  const options = { timeoutMs: syncTimeoutMs };
  for (const end of await sideBySide(lane, 'fsync', paths, syncPath, options)) {
    if (end.status === 'rejected') throw end.reason;
  }
}

/** Concurrent calls of one step. */
const callsAtOnce = 16;

/**
 * One step of the gate for many paths: several calls at a time, limited by the threads granted. Returns when all have
 * ended.
 */
export async function sideBySide<T>(
  lane: Lane,
  name: string,
  paths: readonly string[],
  work: (path: string) => Promise<T>,
  options: { readonly timeoutMs?: number } = {},
): Promise<readonly PromiseSettledResult<T>[]> {
  const results: PromiseSettledResult<T>[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < paths.length; index = next++) {
      const path = paths[index] ?? '';
      results[index] = (await Promise.allSettled([work(path)]))[0];
    }
  };
  const subject = paths.length <= 4 ? paths.join(', ') : `${paths.length} files`;
  const threads = Math.min(callsAtOnce, paths.length);
  await fsCall(
    lane,
    name,
    subject,
    (granted) => Promise.all(Array.from({ length: granted }, worker)),
    {
      ...options,
      threads,
    },
  );
  return results;
}

async function syncPath(path: string): Promise<void> {
  try {
    const handle = await open(path, openFlags.read);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw kernelErrorOf(error, 'fsync', path);
  }
}

/** Passes an O_PATH descriptor to `work`, synchronously, if the kernel has all names in memory; undefined otherwise. */
export function withCachedPath<T>(
  path: string,
  flags: number,
  work: (fd: number) => T,
): T | undefined {
  const fd = openCached(constants.AT_FDCWD, path, { flags });
  if (fd === undefined) return undefined;
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

/** A path of an open descriptor, for calls that take only paths. Valid while it is open. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** A device number of stat(2) as `major:minor` (layout of dev_t in glibc and musl). */
export function majorMinorOf(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The inverse: the device number that stat(2) returns for this pair. */
export function deviceOf(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return (
    ((high & 0xfffff000n) << 32n) |
    ((high & 0xfffn) << 8n) |
    ((low & 0xffffff00n) << 12n) |
    (low & 0xffn)
  );
}
