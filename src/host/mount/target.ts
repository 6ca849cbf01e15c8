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
 * Mount targets. A target is opened once and used through its descriptor, so that later replacing a path component by a
 * symlink has no effect. With a `root`, symlinks below it are not followed (openat2, RESOLVE_NO_SYMLINKS: ELOOP) and
 * the path cannot leave it (EXDEV); without a root, only the last component must not be a symlink.
 */

const statDescriptor = promisify(fstat);

/**
 * Opens `path` below the directory `root` with O_PATH, without following symlinks below `root`; `root` itself is
 * trusted. Closes the descriptor after `work`. KernelError ELOOP for a symlink, EXDEV for a path outside `root`.
 */
async function openBeneath<T>(
  lane: Lane,
  root: string,
  path: string,
  work: (fd: number) => Promise<T>,
  extraFlags = 0,
): Promise<T> {
  const below = relative(root, path);
  if (below === '..' || below.startsWith('../')) {
    throw new KernelError('openat2', 'EXDEV', `${path} (not below ${root})`);
  }
  return withDescriptor(lane, root, openFlags.directoryPathFollowed, async (rootFd) => {
    const fd = await openat2(lane, rootFd, below === '' ? '.' : below, {
      // Not O_NOFOLLOW, which would open a symlink in the last component instead of refusing it.
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
    // open(2) also returns ENOTDIR for a symlink.
    if (isOpen || !hasErrno(error, 'ENOTDIR')) throw error;
    const status = await fsCall(lane, 'lstat', target, () => lstat(target));
    throw status.isSymbolicLink() ? new KernelError('open', 'ELOOP', target) : error;
  }
}

/**
 * Opens the parent of the target. The path passed to `work` leads through the parent's descriptor and is valid until
 * `work` ends.
 */
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

/** Creates the last component of `target`, a directory (0750) or an empty file (0640), unless it exists. */
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
      // Another process has just created it: check its kind.
      await withTarget(lane, target, { ...options, kind }, () => Promise.resolve());
    }
  });
}

async function makeFile(lane: Lane, path: string, target: string): Promise<void> {
  const handle = await openHandle(lane, path, openFlags.createNew | fsConstants.O_NOFOLLOW, 0o640);
  await closeHandle(lane, handle, target);
}

/**
 * Removes the last component of `target`, an empty directory or an empty file. Ignores a missing one. KernelError
 * ENOTEMPTY if it has content, EBUSY for a mount point.
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
