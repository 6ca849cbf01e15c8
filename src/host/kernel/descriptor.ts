import { close, closeSync, constants as fsConstants, open as openCallback } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { KernelError, StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { constants } from './abi.ts';
import { openCached } from './calls.ts';
import { type GateOptions, gate } from './gate.ts';
import { imageTimeoutMs } from './time-limits.ts';

/**
 * Files and directories as descriptors: opened close-on-exec, always closed, with every blocking call through the gate.
 */

const { O_RDONLY, O_RDWR, O_DIRECTORY, O_NOFOLLOW, O_EXCL, O_CREAT } = fsConstants;
const { O_CLOEXEC, O_PATH } = constants;

export const openFlags = {
  read: O_RDONLY | O_CLOEXEC,
  readWrite: O_RDWR | O_CLOEXEC,
  /** Creates a file. KernelError EEXIST if it exists. */
  createNew: O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
  create: O_RDWR | O_CREAT | O_CLOEXEC,
  /** Opens a block device that has no other exclusive user; EBUSY otherwise. */
  exclusive: O_RDONLY | O_EXCL | O_CLOEXEC,
  directory: O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** Opens a directory and follows a symlink in the last component, such as the path of a descriptor. */
  directoryFollowed: O_RDONLY | O_DIRECTORY | O_CLOEXEC,
  /** O_PATH of a directory. A symlink is refused with ENOTDIR. */
  directoryPath: O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** O_PATH of a directory. A symlink in the last component is followed. */
  directoryPathFollowed: O_PATH | O_DIRECTORY | O_CLOEXEC,
  /** O_PATH of any file. A symlink is followed. */
  pathFollowed: O_PATH | O_CLOEXEC,
  /** O_PATH of any file. A symlink itself is opened. */
  path: O_PATH | O_NOFOLLOW | O_CLOEXEC,
} as const;

/** Runs a blocking node:fs call through the gate. A failure is a KernelError. */
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
    throw toKernelError(error, name, subject);
  }
}

/** Converts a node:fs error to a KernelError; returns any other error unchanged. */
export function toKernelError(error: unknown, name: string, subject: string): unknown {
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
    onLate: (handle) => void closeQuietly(lane, handle, path),
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
    // The error of `work` is the one to report.
    await closeQuietly(lane, handle, path);
    throw error;
  }
  await closeHandle(lane, handle, path);
  return result;
}

/**
 * Closes a handle from `openHandle` through the gate, since the last close of a device may write back dirty pages.
 * While a call of the lane is stuck, the handle is closed only after that call has returned (`Gate.runEventually`).
 */
export async function closeHandle(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  try {
    await gate.runEventually(lane, 'close', () => handle.close());
  } catch (error) {
    throw toKernelError(error, 'close', path);
  }
}

/** Closes a handle from `openHandle` and ignores a failure, since close(2) frees the descriptor even if it fails. */
export async function closeQuietly(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  await closeHandle(lane, handle, path).catch(() => undefined);
}

const openDescriptor = promisify(openCallback);

const closeDescriptor = promisify(close);

/** Closes a descriptor through the gate. Ignores a failure, since close(2) frees the descriptor even if it fails. */
export async function closeEventually(
  lane: Lane,
  fd: number,
  options?: { readonly timeoutMs?: number },
): Promise<void> {
  await gate
    .runEventually(lane, 'close', () => closeDescriptor(fd), options)
    .catch(() => undefined);
}

/**
 * Passes a descriptor to `work` and closes it afterwards. An O_PATH descriptor is closed synchronously: only the calls
 * in `work` use it. Other descriptors are closed through the gate, because closing the last user of a lazily unmounted
 * filesystem writes it back. A descriptor that a stuck call uses also goes through the gate: its number must not be
 * reused before that call returns.
 */
export async function useAndClose<T>(
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
    else await closeEventually(lane, fd);
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
      onLate: (opened) => void closeEventually(lane, opened),
    }));
  return useAndClose(lane, fd, { isPathOnly }, work);
}

/** Syncs an open file, directory or device (fsync). */
export async function fsync(lane: Lane, handle: FileHandle, path: string): Promise<void> {
  await fsCall(lane, 'fsync', path, () => handle.sync(), { timeoutMs: imageTimeoutMs });
}

/** Syncs these paths concurrently (fsync), so that a filesystem with one journal commits it once for all of them. */
export async function syncPaths(lane: Lane, paths: readonly string[]): Promise<void> {
  const options = { timeoutMs: imageTimeoutMs };
  for (const end of await fsCallForEach(lane, 'fsync', paths, syncPath, options)) {
    if (end.status === 'rejected') throw end.reason;
  }
}

/** Maximum number of concurrent calls in one pass through the gate. */
const maxConcurrentCalls = 16;

/**
 * Calls `work` for every path in a single pass through the gate, concurrently on the granted threads. Returns the
 * results after all calls have ended.
 */
export async function fsCallForEach<T>(
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
  const threads = Math.min(maxConcurrentCalls, paths.length);
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
    throw toKernelError(error, 'fsync', path);
  }
}

/**
 * Passes an O_PATH descriptor of `path` to `work`, synchronously. Returns undefined if the kernel does not have all
 * names of the path in memory.
 */
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

/** A path to an open descriptor, for calls that accept only paths. Valid while the descriptor is open. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Formats a device number from stat(2) as `major:minor` (dev_t as laid out by glibc and musl). */
export function majorMinorOf(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** Returns the device number that stat(2) reports for this major and minor number. */
export function makeDeviceNumber(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return (
    ((high & 0xfffff000n) << 32n) |
    ((high & 0xfffn) << 8n) |
    ((low & 0xffffff00n) << 12n) |
    (low & 0xffn)
  );
}
