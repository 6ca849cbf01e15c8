import { close as closeCallback, open as openCallback } from 'node:fs';
import { readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hasErrno, KernelError } from '../errors.ts';
import { constants, layouts } from '../kernel/abi.ts';
import { descriptorPath, fsCall, openFlags, toKernelError } from '../kernel/descriptor.ts';
import { statCached } from '../kernel/statx.ts';
import type { Lane } from '../lane.ts';

/** Freeing the blocks of a large image in the tree can take minutes. */
const removeTimeoutMs = 10 * 60_000;

const openDescriptor = promisify(openCallback);
const closeDescriptor = promisify(closeCallback);

/**
 * Removes a file, or a directory with its content; a missing path is fine. Follows no symlink and enters no mount: each
 * directory is opened with O_PATH, checked for being a mount point, and emptied through that descriptor, so that a
 * later mount on its name is not entered either. KernelError EBUSY names the mount point; nothing below it is removed.
 * One step of the gate.
 */
export async function removeTree(lane: Lane, path: string): Promise<void> {
  await fsCall(lane, 'remove', path, () => remove(path, path, 'unknown'), {
    timeoutMs: removeTimeoutMs,
  });
}

/** `named` is the path for messages; `path` may lead through a descriptor. */
async function remove(
  path: string,
  named: string,
  kind: 'directory' | 'file' | 'unknown',
): Promise<void> {
  try {
    if (kind === 'file') {
      await unlink(path);
      return;
    }
    await empty(path, named);
    await rmdir(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    // A symlink is not a directory, even if it leads to one.
    if (kind === 'unknown' && hasErrno(error, 'ENOTDIR')) {
      await remove(path, named, 'file');
      return;
    }
    throw toKernelError(error, 'remove', named);
  }
}

async function empty(path: string, named: string): Promise<void> {
  const fd = await openDescriptor(path, openFlags.directoryPath);
  try {
    requireNoMount(fd, named);
    const opened = descriptorPath(fd);
    for (const entry of await readdir(opened, { withFileTypes: true })) {
      const kind = entry.isDirectory() ? 'directory' : 'file';
      await remove(join(opened, entry.name), join(named, entry.name), kind);
    }
  } finally {
    await closeDescriptor(fd);
  }
}

/** KernelError EBUSY when `fd` is a mount point. */
export function requireNoMount(fd: number, named: string): void {
  if (!isMountRoot(statCached(fd, named))) return;
  throw new KernelError('remove', 'EBUSY', `${named} (something is mounted there)`);
}

/** Whether a result of statx(2) is of a mount point. */
export function isMountRoot(status: Buffer): boolean {
  const attributes = status.readBigUInt64LE(layouts.statx.fields.stx_attributes);
  return (attributes & BigInt(constants.STATX_ATTR_MOUNT_ROOT)) !== 0n;
}
