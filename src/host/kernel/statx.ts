import { arch } from 'node:process';
import { hasErrno } from '../errors.ts';
import { callNumbers, constants, layouts } from './abi.ts';
import { call, callNow, libc } from './libc.ts';

/** statx(2): what the kernel remembers is asked at once, anything else through the gate. */

const callNumber = callNumbers.statx[arch === 'x64' ? 'x64' : 'other'];

/**
 * statx(2) of an open file as the kernel remembers it: asked for no field of the file, and not to ask (AT_STATX_DONT_SYNC), it
 * tells what it has and sends no request, not even to a FUSE server of whose answers it knows that they are old.
 */
export function statCached(fd: number, subject: string): Buffer {
  return statx(fd, '', subject);
}

/** Not in every C library's header yet: the mount's id that is never given again, since Linux 6.8, and where it stands. */
const uniqueMountId = { mask: 0x4000, at: 144 } as const;

/** The id of the mount that was looked through, which no later mount gets; undefined where the kernel has none such. */
export function mountIdIn(status: Buffer): bigint | undefined {
  const isThere = (status.readUInt32LE(layouts.statx.fields.stx_mask) & uniqueMountId.mask) !== 0;
  return isThere ? status.readBigUInt64LE(uniqueMountId.at) : undefined;
}

/** statx(2) of what stands at `path`, a symlink itself, asked of its filesystem. */
export async function statPath(path: string): Promise<Buffer> {
  const status = Buffer.alloc(layouts.statx.size);
  const flags = constants.AT_SYMLINK_NOFOLLOW | constants.AT_NO_AUTOMOUNT;
  const args = [callNumber, constants.AT_FDCWD, path, flags, constants.STATX_BASIC_STATS, status];
  await call({ name: 'lstat', subject: path }, libc().statx, args);
  return status;
}

/** Inode number of a file of procfs or sysfs, whose names are in memory; undefined when it is not there. */
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
