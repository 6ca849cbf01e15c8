import { arch } from 'node:process';
import { hasErrno } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { callNumbers, constants, layouts } from './abi.ts';
import { call, callSync, libc } from './libc.ts';

/** statx(2). Cached attributes are read synchronously, all others through the gate. */

const callNumber = callNumbers.statx[arch === 'x64' ? 'x64' : 'other'];

/**
 * statx(2) of an open file from the kernel's cache. With an empty mask and AT_STATX_DONT_SYNC no request is sent, not
 * even to a FUSE server whose cached attributes have expired.
 */
export function statCached(fd: number, subject: string): Buffer {
  return statx(fd, '', subject);
}

/** STATX_MNT_ID_UNIQUE (Linux 6.8): a mount ID that is never reused. Not every C library has it in its headers yet. */
const uniqueMountId = { mask: 0x4000, at: 144 } as const;

/**
 * The ID of the mount that the path was resolved through, which is never reused; undefined if the kernel does not
 * report it.
 */
export function mountIdIn(status: Buffer): bigint | undefined {
  const isSupported =
    (status.readUInt32LE(layouts.statx.fields.stx_mask) & uniqueMountId.mask) !== 0;
  return isSupported ? status.readBigUInt64LE(uniqueMountId.at) : undefined;
}

/** statx(2) of `path`, without following a symlink. It queries the filesystem, so it may block. */
export async function statPath(lane: Lane, path: string): Promise<Buffer> {
  const status = Buffer.alloc(layouts.statx.size);
  const flags = constants.AT_SYMLINK_NOFOLLOW | constants.AT_NO_AUTOMOUNT;
  const args = [callNumber, constants.AT_FDCWD, path, flags, constants.STATX_BASIC_STATS, status];
  await call(lane, { name: 'lstat', subject: path }, libc().statx, args);
  return status;
}

/** The inode number of a procfs or sysfs file, whose names are in memory; undefined if it does not exist. */
export function cachedInodeOf(path: string): bigint | undefined {
  try {
    return statx(constants.AT_FDCWD, path, path).readBigUInt64LE(layouts.statx.fields.stx_ino);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

function statx(dirfd: number, path: string, subject: string): Buffer {
  const status = Buffer.alloc(layouts.statx.size);
  const flags = constants.AT_EMPTY_PATH | constants.AT_STATX_DONT_SYNC;
  const args = [callNumber, dirfd, path, flags, uniqueMountId.mask, status];
  callSync({ name: 'statx', subject }, libc().statx, args);
  return status;
}
