import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno, ImageInUseError } from '../errors.ts';
import { flock } from '../kernel/calls.ts';
import { closeHandle, closeQuietly, openFlags, openHandle } from '../kernel/descriptor.ts';
import { findHolder } from './running-programs.ts';

/**
 * Keeps everything away from an image that a program works on, whoever started the program. The lock is a flock on an open
 * file description of its own, which the program inherits: it lives until both the driver and the program have closed it, so
 * SIGKILL of either one leaves it to the other. LOOP_CONFIGURE keeps the description that it is given, so that is never this
 * one. Inside one driver the locks of volumes exclude each other; here only a program of an earlier driver can be met, so
 * nobody waits for its end.
 */
export interface ImageLock {
  /** Its descriptor, for the program to inherit. */
  readonly fd: number;
  release(): Promise<void>;
}

/** What says that this filesystem has no such locks (NFS without its lock service, some FUSE servers): no lock then. */
const withoutLocks = ['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'] as const;

/** Locks an image for a program. ImageInUseError when a program works on it; KernelError ENOENT. */
export async function lockImage(imagePath: string): Promise<ImageLock> {
  const handle = await openLocked(imagePath, 'exclusive');
  return { fd: handle.fd, release: () => closeHandle(handle, imagePath) };
}

/** Throws ImageInUseError when a program works on the image. Nothing is kept; an image that is not there has no program. */
export async function requireNoProgram(imagePath: string): Promise<void> {
  try {
    await closeHandle(await openLocked(imagePath, 'shared'), imagePath);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}

/** A look at a descriptor in /proc keeps its file, and so the lock, for a moment longer than its program has run. */
const momentMs = 1_000;
const stepMs = 20;

async function openLocked(imagePath: string, kind: 'exclusive' | 'shared'): Promise<FileHandle> {
  const handle = await openHandle(imagePath, openFlags.read);
  try {
    await lock(handle, imagePath, kind);
    return handle;
  } catch (error) {
    if (hasErrno(error, ...withoutLocks)) return handle;
    await closeQuietly(handle, imagePath);
    throw error;
  }
}

/** Throws ImageInUseError at once when a process that has the file open is seen, and after a moment when none is. */
async function lock(
  handle: FileHandle,
  imagePath: string,
  kind: 'exclusive' | 'shared',
): Promise<void> {
  // Counted from the first look that sees nobody: a look takes long on a busy machine, and the program may have ended during it.
  let endMs: number | undefined;
  for (;;) {
    try {
      await flock(handle.fd, kind, imagePath);
      return;
    } catch (error) {
      if (!hasErrno(error, 'EAGAIN')) throw error;
    }
    const holder = await findHolder(handle, imagePath);
    endMs ??= performance.now() + momentMs;
    if (holder !== undefined || performance.now() > endMs) {
      throw new ImageInUseError(imagePath, holder);
    }
    await delay(stepMs);
  }
}
