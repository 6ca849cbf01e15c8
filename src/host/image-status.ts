import { stat, statfs } from 'node:fs/promises';
import { deviceOf, fsCall, openFlags, withKnownPlace } from './descriptor.ts';
import type { ImageStatus } from './host.ts';
import { layouts } from './kernel-abi.ts';
import { statKnown } from './statx.ts';

/** st_blocks counts these, whatever the filesystem's block size. */
export const statBlockBytes = 512n;

/** Magic numbers (statfs(2)) of filesystems whose kernel code itself holds size and blocks of an open file: ext4, XFS, btrfs, f2fs, tmpfs. */
const ownTypes: readonly number[] = [0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994];

/** Whether a filesystem is one of these, by its device number, as it was learnt by asking it. */
const isOwn = new Map<bigint, boolean>();

/**
 * Size and identity of a file. Where the kernel has them in its memory it tells them at once; of others, FUSE and NFS among them,
 * it remembers what was, and the file is asked. KernelError ENOENT.
 */
export async function imageStatus(path: string): Promise<ImageStatus> {
  const known = withKnownPlace(path, openFlags.anyPlace, (fd) => statusFrom(statKnown(fd, path)));
  if (known !== undefined && isOwn.get(known.device) === true) return known;
  const { dev, ino, size, blocks } = await fsCall('stat', path, () => stat(path, { bigint: true }));
  if (!isOwn.has(dev)) {
    const { type } = await fsCall('statfs', path, () => statfs(path));
    isOwn.set(dev, ownTypes.includes(type));
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
