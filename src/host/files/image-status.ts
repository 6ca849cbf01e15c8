import { stat, statfs } from 'node:fs/promises';
import type { ImageStatus } from '../host.ts';
import { layouts } from '../kernel/abi.ts';
import { deviceOf, fsCall, majorMinorOf, openFlags, withCachedPath } from '../kernel/descriptor.ts';
import { mountIdIn, statCached } from '../kernel/statx.ts';

/** st_blocks counts these, whatever the filesystem's block size. */
export const statBlockBytes = 512n;

/** Magic numbers (statfs(2)) of filesystems whose kernel code itself holds size and blocks of an open file: ext4, XFS, btrfs, f2fs, tmpfs. */
const authoritativeTypes: readonly number[] = [
  0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994,
];

/** Whether a mount is of one of these, as it was learnt by asking it. */
const isAuthoritative = new Map<string, boolean>();
/** Mounts come and go; those of the pools are a few. */
const maxMounts = 256;

interface CachedStatus extends ImageStatus {
  readonly mount: string | undefined;
}

function readCached(path: string): CachedStatus | undefined {
  return withCachedPath(path, openFlags.pathFollowed, (fd) => {
    const status = statCached(fd, path);
    const image = statusFrom(status);
    return { ...image, mount: mountOf(image.device, mountIdIn(status)) };
  });
}

/**
 * What tells a mount from every later one. A device number does not: an anonymous one that was a btrfs's can come back as that
 * of a FUSE. Where the kernel has no unique ids, only the number of a block device is taken for it.
 */
function mountOf(device: bigint, id: bigint | undefined): string | undefined {
  if (id !== undefined) return `mount ${id}`;
  const isAnonymous = majorMinorOf(device).startsWith('0:');
  return isAnonymous ? undefined : `device ${device}`;
}

/**
 * Size and identity of a file. Where the kernel has them in its memory it tells them at once; of others, FUSE and NFS among them,
 * it remembers what was, and the file is asked. KernelError ENOENT.
 */
export async function imageStatus(path: string): Promise<ImageStatus> {
  const cached = readCached(path);
  const mount = cached?.mount;
  if (cached !== undefined && mount !== undefined && isAuthoritative.get(mount) === true) {
    const { device, inode, sizeBytes, allocatedBytes } = cached;
    return { device, inode, sizeBytes, allocatedBytes };
  }
  const { dev, ino, size, blocks } = await fsCall('stat', path, () => stat(path, { bigint: true }));
  if (mount !== undefined && !isAuthoritative.has(mount)) {
    const { type } = await fsCall('statfs', path, () => statfs(path));
    if (isAuthoritative.size >= maxMounts) isAuthoritative.clear();
    // Another one may have been mounted there meanwhile.
    if (readCached(path)?.mount === mount)
      isAuthoritative.set(mount, authoritativeTypes.includes(type));
  }
  return { device: dev, inode: ino, sizeBytes: size, allocatedBytes: blocks * statBlockBytes };
}

function statusFrom(status: Buffer): ImageStatus {
  const at = layouts.statx.fields;
  const major = status.readUInt32LE(at.stx_dev_major);
  const minor = status.readUInt32LE(at.stx_dev_minor);
  return {
    device: deviceOf(major, minor),
    inode: status.readBigUInt64LE(at.stx_ino),
    sizeBytes: status.readBigUInt64LE(at.stx_size),
    allocatedBytes: status.readBigUInt64LE(at.stx_blocks) * statBlockBytes,
  };
}
