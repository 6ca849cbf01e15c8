import { close as closeCallback, open as openCallback } from 'node:fs';
import { readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hasErrno, KernelError } from '../errors.ts';
import { constants, layouts } from '../kernel/abi.ts';
import { descriptorPath, fsCall, kernelErrorOf, openFlags } from '../kernel/descriptor.ts';
import { statCached } from '../kernel/statx.ts';

/** Freeing the blocks of a large image that stands in it can take a while. */
const removeBoundMs = 10 * 60_000;

const openDescriptor = promisify(openCallback);
const closeDescriptor = promisify(closeCallback);

/**
 * Removes a file, or a directory with everything in it; absent is fine. Neither follows a symlink nor enters a mount: each
 * directory is opened as a opened, asked whether a mount begins there, and emptied through that descriptor, so what is mounted
 * on its name later is not reached either. KernelError EBUSY, naming the mount point, when there is one: what is below it stays.
 * One step of the gate.
 */
export async function removeTree(path: string): Promise<void> {
  await fsCall('remove', path, () => remove(path, path, 'unknown'), { boundMs: removeBoundMs });
}

/** `named` is the path for people, where `path` leads through a descriptor. */
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
    // A symlink, even one that leads to a directory, is no directory.
    if (kind === 'unknown' && hasErrno(error, 'ENOTDIR')) {
      await remove(path, named, 'file');
      return;
    }
    throw kernelErrorOf(error, 'remove', named);
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

/** KernelError EBUSY when a mount begins at what `fd` has open. */
export function requireNoMount(fd: number, named: string): void {
  if (!isMountRoot(statCached(fd, named))) return;
  throw new KernelError('remove', 'EBUSY', `${named} (something is mounted there)`);
}

/** Whether a result of statx(2) is of the root of a mount. */
export function isMountRoot(status: Buffer): boolean {
  const attributes = status.readBigUInt64LE(layouts.statx.fields.stx_attributes);
  return (attributes & BigInt(constants.STATX_ATTR_MOUNT_ROOT)) !== 0n;
}
