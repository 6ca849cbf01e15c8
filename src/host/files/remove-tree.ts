import { close as closeCallback, open as openCallback } from 'node:fs';
import { readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hasErrno, KernelError } from '../errors.ts';
import { constants, layouts } from '../kernel/abi.ts';
import { descriptorPath, fsCall, openFlags, toKernelError } from '../kernel/descriptor.ts';
import { statCached } from '../kernel/statx.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';

const openDescriptor = promisify(openCallback);
const closeDescriptor = promisify(closeCallback);

/**
 * Removes a file, or a directory with its content. Ignores a missing path. Does not follow symlinks or descend into
 * mounts: each directory is opened with O_PATH, is verified not to be a mount point, and is emptied through that
 * descriptor, so that a filesystem mounted on it later is not entered either. KernelError EBUSY names the mount point;
 * nothing below it is removed. Passes the gate once.
 */
export async function removeTree(lane: Lane, path: string): Promise<void> {
  await fsCall(lane, 'remove', path, () => remove(path, path, 'unknown'), {
    timeoutMs: imageTimeoutMs,
  });
}

/** `displayPath` is the path in error messages; `path` may lead through a descriptor. */
async function remove(
  path: string,
  displayPath: string,
  kind: 'directory' | 'file' | 'unknown',
): Promise<void> {
  try {
    if (kind === 'file') {
      await unlink(path);
      return;
    }
    await empty(path, displayPath);
    await rmdir(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    // The path is a file or a symlink.
    if (kind === 'unknown' && hasErrno(error, 'ENOTDIR')) {
      await remove(path, displayPath, 'file');
      return;
    }
    throw toKernelError(error, 'remove', displayPath);
  }
}

async function empty(path: string, displayPath: string): Promise<void> {
  const fd = await openDescriptor(path, openFlags.directoryPath);
  try {
    requireNoMount(fd, displayPath);
    const opened = descriptorPath(fd);
    for (const entry of await readdir(opened, { withFileTypes: true })) {
      const kind = entry.isDirectory() ? 'directory' : 'file';
      await remove(join(opened, entry.name), join(displayPath, entry.name), kind);
    }
  } finally {
    await closeDescriptor(fd);
  }
}

/** Throws KernelError EBUSY if `fd` is a mount point. */
export function requireNoMount(fd: number, displayPath: string): void {
  if (!isMountRoot(statCached(fd, displayPath))) return;
  throw new KernelError('remove', 'EBUSY', `${displayPath} (something is mounted there)`);
}

/** Whether a result of statx(2) describes a mount point. */
export function isMountRoot(status: Buffer): boolean {
  const attributes = status.readBigUInt64LE(layouts.statx.fields.stx_attributes);
  return (attributes & BigInt(constants.STATX_ATTR_MOUNT_ROOT)) !== 0n;
}
