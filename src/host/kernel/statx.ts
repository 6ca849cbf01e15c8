import { arch } from 'node:process';
import { hasErrno } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { callNumbers, constants, layouts } from './abi.ts';
import { call, callNow, libc } from './libc.ts';

/** statx(2): cached attributes are read synchronously, everything else through the gate. */

const callNumber = callNumbers.statx[arch === 'x64' ? 'x64' : 'other'];

/**
 * statx(2) of an open file from the cache of the kernel. With an empty mask and AT_STATX_DONT_SYNC no request is sent,
 * not even to a FUSE server whose cached attributes have expired.
 */
export function statCached(fd: number, subject: string): Buffer {
  return statx(fd, '', subject);
}

/** The unique mount id (Linux 6.8), which is never reused. Not in the headers of every C library yet. */
const uniqueMountId = { mask: 0x4000, at: 144 } as const;

/**
 * The id of the mount that the path was resolved through, which no later mount gets; undefined if the kernel has none.
 */
export function mountIdIn(status: Buffer): bigint | undefined {
  const isThere = (status.readUInt32LE(layouts.statx.fields.stx_mask) & uniqueMountId.mask) !== 0;
  return isThere ? status.readBigUInt64LE(uniqueMountId.at) : undefined;
}

/** statx(2) of `path`, without following a symlink; the filesystem is asked. */
export async function statPath(lane: Lane, path: string): Promise<Buffer> {
  const status = Buffer.alloc(layouts.statx.size);
  const flags = constants.AT_SYMLINK_NOFOLLOW | constants.AT_NO_AUTOMOUNT;
  const args = [callNumber, constants.AT_FDCWD, path, flags, constants.STATX_BASIC_STATS, status];
  await call(lane, { name: 'lstat', subject: path }, libc().statx, args);
  return status;
}

/** The inode number of a file of procfs or sysfs, whose names are in memory; undefined if it does not exist. */
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
  callNow({ name: 'statx', subject }, libc().statx, args);
  return status;
}
