import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno, ImageInUseError } from '../errors.ts';
import { flock } from '../kernel/calls.ts';
import { closeHandle, closeQuietly, openFlags, openHandle } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { findHolder } from './running-programs.ts';

/**
 * Locks an image while a program uses it, whichever driver process started the program. The lock is a flock on an open
 * file description of its own, which the program inherits. It lasts until both the driver and the program have closed
 * it, so if one is killed, the other still has it. A loop device keeps a reference to the description passed to
 * LOOP_CONFIGURE, so it never gets this one. Within one driver process, volume locks already exclude concurrent use;
 * only a program of an earlier driver process can have this lock, so nothing waits for it.
 */
export interface ImageLock {
  /** Descriptor for the program to inherit. */
  readonly fd: number;
  release(): Promise<void>;
}

/**
 * Errors of filesystems without flock (NFS without its lock service, some FUSE servers). Images there are not locked.
 */
const lockUnsupportedErrors = ['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'] as const;

/** Locks an image for a program. ImageInUseError while another program uses it; KernelError ENOENT. */
export async function lockImage(lane: Lane, imagePath: string): Promise<ImageLock> {
  const handle = await openLocked(lane, imagePath, 'exclusive');
  return { fd: handle.fd, release: () => closeHandle(lane, handle, imagePath) };
}

/** Throws ImageInUseError while a program uses the image. Releases the lock at once. A missing image is not in use. */
export async function requireNoProgram(lane: Lane, imagePath: string): Promise<void> {
  try {
    await closeHandle(lane, await openLocked(lane, imagePath, 'shared'), imagePath);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}

/**
 * A process that reads a program's descriptor in /proc references the file, so the lock can outlast the program
 * briefly.
 */
const graceMs = 1_000;
const retryMs = 20;

async function openLocked(
  lane: Lane,
  imagePath: string,
  kind: 'exclusive' | 'shared',
): Promise<FileHandle> {
  const handle = await openHandle(lane, imagePath, openFlags.read);
  try {
    await lock(lane, handle, imagePath, kind);
    return handle;
  } catch (error) {
    if (hasErrno(error, ...lockUnsupportedErrors)) return handle;
    await closeQuietly(lane, handle, imagePath);
    throw error;
  }
}

/** Throws ImageInUseError: at once if a process that has the file open is visible, otherwise after `graceMs`. */
async function lock(
  lane: Lane,
  handle: FileHandle,
  imagePath: string,
  kind: 'exclusive' | 'shared',
): Promise<void> {
  // The grace period starts after the first scan: on a busy machine a scan takes long, and the program may end during
  // it.
  let endMs: number | undefined;
  for (;;) {
    try {
      await flock(lane, handle.fd, kind, imagePath);
      return;
    } catch (error) {
      if (!hasErrno(error, 'EAGAIN')) throw error;
    }
    const holder = await findHolder(lane, handle, imagePath);
    endMs ??= performance.now() + graceMs;
    if (holder !== undefined || performance.now() > endMs) {
      throw new ImageInUseError(imagePath, holder);
    }
    await delay(retryMs);
  }
}
