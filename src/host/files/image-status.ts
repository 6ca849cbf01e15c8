import { stat, statfs } from 'node:fs/promises';
import type { ImageStatus } from '../host.ts';
import { layouts } from '../kernel/abi.ts';
import {
  fsCall,
  majorMinorOf,
  makeDeviceNumber,
  openFlags,
  withCachedPath,
} from '../kernel/descriptor.ts';
import { mountIdIn, statCached } from '../kernel/statx.ts';
import type { Lane } from '../lane.ts';

/** The unit of st_blocks, independent of the filesystem's block size. */
export const statBlockBytes = 512n;

/**
 * Magic numbers (statfs(2)) of filesystems for which the kernel always has the current attributes of open files: ext4,
 * XFS, btrfs, f2fs, tmpfs.
 */
const authoritativeTypes: readonly number[] = [
  0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994,
];

/** Whether a mount has one of these filesystems, by mount key. */
const isAuthoritative = new Map<string, boolean>();
/** Maximum number of cached mounts. Mounts change, and the pools are on only a few. */
const maxMounts = 256;

interface CachedStatus extends ImageStatus {
  readonly mount: string | undefined;
}

function readCached(path: string): CachedStatus | undefined {
  return withCachedPath(path, openFlags.pathFollowed, (fd) => {
    const status = statCached(fd, path);
    const image = statusFrom(status);
    return { ...image, mount: mountKeyOf(image.device, mountIdIn(status)) };
  });
}

/**
 * Returns a key that no later mount can have. The anonymous device number of btrfs is not suitable, since a FUSE mount
 * may reuse it. Without unique mount IDs, only the number of a block device is used.
 */
function mountKeyOf(device: bigint, id: bigint | undefined): string | undefined {
  if (id !== undefined) return `mount ${id}`;
  const isAnonymous = majorMinorOf(device).startsWith('0:');
  return isAnonymous ? undefined : `device ${device}`;
}

/**
 * Reads the size and identity of a file: from kernel memory if the kernel has its current attributes, otherwise with
 * stat(2), since cached attributes may be stale on FUSE, NFS and others. KernelError ENOENT.
 */
export async function imageStatus(lane: Lane, path: string): Promise<ImageStatus> {
  const cached = readCached(path);
  const mount = cached?.mount;
  if (cached !== undefined && mount !== undefined && isAuthoritative.get(mount) === true) {
    const { device, inode, sizeBytes, allocatedBytes } = cached;
    return { device, inode, sizeBytes, allocatedBytes };
  }
  const { dev, ino, size, blocks } = await fsCall(lane, 'stat', path, () =>
    stat(path, { bigint: true }),
  );
  if (mount !== undefined && !isAuthoritative.has(mount)) {
    const { type } = await fsCall(lane, 'statfs', path, () => statfs(path));
    if (isAuthoritative.size >= maxMounts) isAuthoritative.clear();
    // Another filesystem may have been mounted there in the meantime.
    if (readCached(path)?.mount === mount)
      isAuthoritative.set(mount, authoritativeTypes.includes(type));
  }
  return { device: dev, inode: ino, sizeBytes: size, allocatedBytes: blocks * statBlockBytes };
}

function statusFrom(status: Buffer): ImageStatus {
  const fields = layouts.statx.fields;
  const major = status.readUInt32LE(fields.stx_dev_major);
  const minor = status.readUInt32LE(fields.stx_dev_minor);
  return {
    device: makeDeviceNumber(major, minor),
    inode: status.readBigUInt64LE(fields.stx_ino),
    sizeBytes: status.readBigUInt64LE(fields.stx_size),
    allocatedBytes: status.readBigUInt64LE(fields.stx_blocks) * statBlockBytes,
  };
}
