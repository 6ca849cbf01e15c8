import { closeSync, constants as fsConstants, fstat } from 'node:fs';
import { lstat, mkdir, rmdir, unlink } from 'node:fs/promises';
import { basename, dirname, relative } from 'node:path';
import { promisify } from 'node:util';
import { hasErrno, KernelError } from '../errors.ts';
import type { TargetOptions } from '../host.ts';
import { constants } from '../kernel/abi.ts';
import { openat2 } from '../kernel/calls.ts';
import {
  closeHandle,
  descriptorPath,
  fsCall,
  openFlags,
  openHandle,
  useAndClose,
  withDescriptor,
} from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/**
 * Targets of mounts. A target is opened once and used through its descriptor, so that replacing a component by a
 * symlink afterwards has no effect. With a `root`, no symlink below it is followed (openat2, RESOLVE_NO_SYMLINKS:
 * ELOOP) and no path leads out of it (EXDEV); without one, only the last component must not be a symlink.
 */

const statDescriptor = promisify(fstat);

/**
 * Opens `path` below the directory `root` with O_PATH, following no symlink below `root`; `root` itself is trusted. The
 * descriptor is closed after `work`. KernelError ELOOP for a symlink, EXDEV for a path outside.
 */
export async function openBeneath<T>(
  lane: Lane,
  root: string,
  path: string,
  work: (fd: number) => Promise<T>,
  extraFlags = 0,
): Promise<T> {
  const below = relative(root, path);
  if (below === '..' || below.startsWith('../')) {
    throw new KernelError('openat2', 'EXDEV', `${path} below ${root}`);
  }
  return withDescriptor(lane, root, openFlags.directoryPathFollowed, async (rootFd) => {
    const fd = await openat2(lane, rootFd, below === '' ? '.' : below, {
      // No O_NOFOLLOW: it would open a symlink in the last component instead of refusing it.
      flags: constants.O_PATH | constants.O_CLOEXEC | extraFlags,
      resolve: constants.RESOLVE_BENEATH | constants.RESOLVE_NO_SYMLINKS,
      onLate: closeSync,
    });
    return useAndClose(lane, fd, { isPathOnly: true }, work);
  });
}

/**
 * Opens the target itself with O_PATH: a directory, or a file of any type. KernelError ELOOP for a symlink, ENOTDIR or
 * EISDIR for the wrong kind.
 */
export function withTarget<T>(
  lane: Lane,
  target: string,
  { root, kind }: TargetOptions & { kind: 'directory' | 'file' },
  work: (fd: number) => Promise<T>,
): Promise<T> {
  if (kind === 'directory') {
    if (root !== undefined) return openBeneath(lane, root, target, work, fsConstants.O_DIRECTORY);
    return withDirectory(lane, target, work);
  }
  const use = async (fd: number) => {
    const status = await fsCall(lane, 'fstat', target, () => statDescriptor(fd));
    if (status.isSymbolicLink()) throw new KernelError('open', 'ELOOP', target);
    if (status.isDirectory()) throw new KernelError('open', 'EISDIR', target);
    return work(fd);
  };
  if (root !== undefined) return openBeneath(lane, root, target, use);
  return withDescriptor(lane, target, openFlags.path, use);
}

async function withDirectory<T>(
  lane: Lane,
  target: string,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  let isOpen = false;
  try {
    return await withDescriptor(lane, target, openFlags.directoryPath, (fd) => {
      isOpen = true;
      return work(fd);
    });
  } catch (error) {
    // For a symlink, open(2) only says that it is not a directory.
    if (isOpen || !hasErrno(error, 'ENOTDIR')) throw error;
    const status = await fsCall(lane, 'lstat', target, () => lstat(target));
    throw status.isSymbolicLink() ? new KernelError('open', 'ELOOP', target) : error;
  }
}

/** Opens the parent of the target; `work` gets a path to the target through it, valid meanwhile. */
export function withParent<T>(
  lane: Lane,
  target: string,
  options: TargetOptions,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const name = basename(target);
  const use = (fd: number) => work(`${descriptorPath(fd)}/${name}`);
  if (options.root !== undefined) return openBeneath(lane, options.root, dirname(target), use);
  return withDescriptor(lane, dirname(target), openFlags.directoryPathFollowed, use);
}

/** Makes the last component of `target`, a directory (0750) or an empty file (0640), unless it is there already. */
export async function makeTarget(
  lane: Lane,
  target: string,
  kind: 'directory' | 'file',
  options: TargetOptions,
): Promise<void> {
  try {
    // An existing target must be of this kind, and not a symlink.
    await withTarget(lane, target, { ...options, kind }, () => Promise.resolve());
    return;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  await withParent(lane, target, options, async (path) => {
    try {
      if (kind === 'directory') await fsCall(lane, 'mkdir', target, () => mkdir(path, 0o750));
      else await makeFile(lane, path, target);
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
      // Another process made it first: check its kind.
      await withTarget(lane, target, { ...options, kind }, () => Promise.resolve());
    }
  });
}

async function makeFile(lane: Lane, path: string, target: string): Promise<void> {
  const handle = await openHandle(lane, path, openFlags.createNew | fsConstants.O_NOFOLLOW, 0o640);
  await closeHandle(lane, handle, target);
}

/**
 * Removes the last component, an empty directory or an empty file. A missing one is fine; KernelError ENOTEMPTY if it
 * has content, EBUSY for a mount point.
 */
export async function removeTarget(
  lane: Lane,
  target: string,
  options: TargetOptions,
): Promise<void> {
  try {
    await withParent(lane, target, options, async (path) => {
      try {
        await fsCall(lane, 'rmdir', target, () => rmdir(path));
      } catch (error) {
        if (!hasErrno(error, 'ENOTDIR')) throw error;
        const found = await fsCall(lane, 'lstat', target, () => lstat(path));
        if (found.isFile() && found.size > 0) throw new KernelError('unlink', 'ENOTEMPTY', target);
        await fsCall(lane, 'unlink', target, () => unlink(path));
      }
    });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
