import { closeSync, constants as fsConstants, fstat } from 'node:fs';
import { mkdir, rmdir, unlink } from 'node:fs/promises';
import { basename, dirname, relative } from 'node:path';
import { promisify } from 'node:util';
import {
  closeHandle,
  descriptorPath,
  fsCall,
  openFlags,
  openHandle,
  withOpen,
} from './descriptor.ts';
import { hasErrno, KernelError } from './errors.ts';
import type { TargetOptions } from './host.ts';
import { openat2 } from './kernel.ts';
import { constants } from './kernel-abi.ts';

/**
 * Where mounts go. A target is opened once and used by its descriptor, so that swapping a component for a symlink
 * afterwards changes nothing. With a `root`, no symlink below it is followed (openat2, RESOLVE_NO_SYMLINKS: ELOOP) and
 * nothing leads out of it (EXDEV); without one, only the last component must not be a symlink.
 */

const statDescriptor = promisify(fstat);

/**
 * Opens `path` below the directory `root` as a place (O_PATH), following no symlink below `root`; `root` itself is
 * trusted. The descriptor is closed when `work` ends. KernelError ELOOP for a symlink, EXDEV for a path outside.
 */
export async function openBeneath<T>(
  root: string,
  path: string,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  const below = relative(root, path);
  if (below === '..' || below.startsWith('../')) {
    throw new KernelError('openat2', 'EXDEV', `${path} below ${root}`);
  }
  return withOpen(root, openFlags.followedPlace, async (rootHandle) => {
    const fd = await openat2(rootHandle.fd, below === '' ? '.' : below, {
      // Without O_NOFOLLOW: that would open a symlink in the last component instead of refusing it.
      flags: constants.O_PATH | constants.O_CLOEXEC,
      resolve: constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS,
      late: closeSync,
    });
    try {
      return await work(fd);
    } finally {
      // Closing a place touches no file, so it cannot wait for a disk.
      closeSync(fd);
    }
  });
}

/**
 * Opens the target itself as a place: a directory, or a file of any type. KernelError ELOOP for a symlink, ENOTDIR and
 * EISDIR for the other kind.
 */
export function withTarget<T>(
  target: string,
  options: TargetOptions & { kind: 'directory' | 'file' },
  work: (fd: number) => Promise<T>,
): Promise<T> {
  const use = async (fd: number) => {
    const status = await fsCall('fstat', target, () => statDescriptor(fd));
    if (status.isSymbolicLink()) throw new KernelError('open', 'ELOOP', target);
    if (status.isDirectory() !== (options.kind === 'directory')) {
      throw new KernelError('open', options.kind === 'directory' ? 'ENOTDIR' : 'EISDIR', target);
    }
    return work(fd);
  };
  if (options.root !== undefined) return openBeneath(options.root, target, use);
  return withOpen(target, openFlags.place, ({ fd }) => use(fd));
}

/** Opens the target's parent; `work` gets a path to the target through it, valid meanwhile. */
export function withParent<T>(
  target: string,
  options: TargetOptions,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const name = basename(target);
  const use = (fd: number) => work(`${descriptorPath(fd)}/${name}`);
  if (options.root !== undefined) return openBeneath(options.root, dirname(target), use);
  return withOpen(dirname(target), openFlags.followedPlace, (handle) => use(handle.fd));
}

/** Makes the last component of `target`, a directory (0750) or an empty file (0640), unless it is there already. */
export async function makeTarget(
  target: string,
  kind: 'directory' | 'file',
  options: TargetOptions,
): Promise<void> {
  await withParent(target, options, async (path) => {
    try {
      if (kind === 'directory') await fsCall('mkdir', target, () => mkdir(path, 0o750));
      else await makeFile(path, target);
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
  });
  // What was there already must be of the kind, and no symlink.
  await withTarget(target, { ...options, kind }, () => Promise.resolve());
}

async function makeFile(path: string, target: string): Promise<void> {
  const handle = await openHandle(path, openFlags.createNew | fsConstants.O_NOFOLLOW, 0o640);
  await closeHandle(handle, target);
}

/** Removes the last component, an empty directory or a file. Absent already is fine; KernelError ENOTEMPTY, EBUSY. */
export async function removeTarget(target: string, options: TargetOptions): Promise<void> {
  try {
    await withParent(target, options, async (path) => {
      try {
        await fsCall('rmdir', target, () => rmdir(path));
      } catch (error) {
        if (!hasErrno(error, 'ENOTDIR')) throw error;
        await fsCall('unlink', target, () => unlink(path));
      }
    });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
