import { closeSync, constants as fsConstants, open as openNumber } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { KernelError } from './errors.ts';
import { type GateOptions, gate } from './gate.ts';
import { openKnown } from './kernel.ts';
import { constants } from './kernel-abi.ts';

/** Files and directories by descriptor: opened close-on-exec, always closed, every step through the gate. */

const { O_RDONLY, O_RDWR, O_DIRECTORY, O_NOFOLLOW, O_EXCL, O_CREAT } = fsConstants;
const { O_CLOEXEC, O_PATH } = constants;

export const openFlags = {
  read: O_RDONLY | O_CLOEXEC,
  readWrite: O_RDWR | O_CLOEXEC,
  /** KernelError EEXIST when it is there. */
  createNew: O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
  create: O_RDWR | O_CREAT | O_CLOEXEC,
  /** A block device that nobody else has claimed; EBUSY otherwise. */
  exclusive: O_RDONLY | O_EXCL | O_CLOEXEC,
  directory: O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** The same where a descriptor's path leads to: those are symlinks by their form. */
  directoryThere: O_RDONLY | O_DIRECTORY | O_CLOEXEC,
  /** A directory as a place only: nothing is read, a symlink is refused with ENOTDIR. */
  directoryPlace: O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
  /** The same, but a symlink in the last component is followed. */
  followedPlace: O_PATH | O_DIRECTORY | O_CLOEXEC,
  /** Anything as a place, a symlink followed. */
  anyPlace: O_PATH | O_CLOEXEC,
  /** Anything as a place, a symlink itself included. */
  place: O_PATH | O_NOFOLLOW | O_CLOEXEC,
} as const;

/** A call of node:fs that may block, through the gate; its failure is a KernelError. */
export async function fsCall<T>(
  name: string,
  subject: string,
  work: () => Promise<T>,
  options?: GateOptions<T>,
): Promise<T> {
  try {
    return await gate.run(name, work, options);
  } catch (error) {
    throw kernelErrorOf(error, name, subject);
  }
}

/** An error of node:fs as a KernelError; any other error as it is. */
export function kernelErrorOf(error: unknown, name: string, subject: string): unknown {
  if (error instanceof KernelError || !(error instanceof Error)) return error;
  if (!('code' in error) || typeof error.code !== 'string' || !('syscall' in error)) return error;
  return new KernelError(name, error.code, subject, { cause: error });
}

/** Opens `path`, for the caller to close; use `withOpen` where that can be. New files get `mode`. */
export function openHandle(path: string, flags: number, mode = 0o600): Promise<FileHandle> {
  return fsCall('open', path, () => open(path, flags, mode), {
    late: (value) => void value.close().catch(() => undefined),
  });
}

/** Opens `path`, gives the handle to `work`, and closes it whatever happens. New files get mode 0600. */
export async function withOpen<T>(
  path: string,
  flags: number,
  work: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  const handle = await openHandle(path, flags);
  let result: T;
  try {
    result = await work(handle);
  } catch (error) {
    // The first failure is the one to report.
    await closeQuietly(handle);
    throw error;
  }
  await closeHandle(handle, path);
  return result;
}

/** Closes what `openHandle` opened. The last close of a device may write back, so it passes the gate too. */
export async function closeHandle(handle: FileHandle, path: string): Promise<void> {
  await fsCall('close', path, () => handle.close());
}

async function closeQuietly(handle: FileHandle): Promise<void> {
  try {
    await gate.run('close', () => handle.close());
  } catch {
    // Nothing can be done about it, and the descriptor is gone all the same.
  }
}

const openPlace = promisify(openNumber);

/** The same for a place or a directory: closing one writes nothing back, so it is closed at once. */
export async function withPlace<T>(
  path: string,
  flags: number,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  const isPlace = (flags & O_PATH) !== 0;
  const fd =
    (isPlace ? openKnown(constants.AT_FDCWD, path, { flags }) : undefined) ??
    (await fsCall('open', path, () => openPlace(path, flags), { late: closeSync }));
  try {
    return await work(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writing back what a large image has in memory can take minutes. */
export const syncBoundMs = 10 * 60_000;

/** fsync of an open file, directory or device. */
export async function fsync(handle: FileHandle, path: string): Promise<void> {
  await fsCall('fsync', path, () => handle.sync(), { boundMs: syncBoundMs });
}

/** fsync of what stands at these paths, side by side: what one journal holds is then written once for all of them. */
export async function syncPaths(paths: readonly string[]): Promise<void> {
  const options = { boundMs: syncBoundMs, threads: paths.length };
  await fsCall(
    'fsync',
    paths.join(', '),
    async () => {
      // All must have ended before the threads count as free again.
      const ends = await Promise.allSettled(paths.map(syncPath));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
    options,
  );
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

/** Gives `work` the place at once, when all its names are in the kernel's memory; undefined otherwise. */
export function withKnownPlace<T>(
  path: string,
  flags: number,
  work: (fd: number) => T,
): T | undefined {
  const fd = openKnown(constants.AT_FDCWD, path, { flags });
  if (fd === undefined) return undefined;
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

/** The path that leads to an open descriptor, also for calls that take only paths. Valid while it is open. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** A device number of stat(2) as `major:minor` (glibc's and musl's layout of dev_t). */
export function majorMinorOf(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The device number that stat(2) gives for that pair, the other way round. */
export function deviceOf(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return (
    ((high & 0xfffff000n) << 32n) |
    ((high & 0xfffn) << 8n) |
    ((low & 0xffffff00n) << 12n) |
    (low & 0xffn)
  );
}
