import { CommandError } from '../errors.ts';
import type { LoopDevice } from '../host.ts';
import { layouts } from '../kernel/abi.ts';
import { ioctlWithBuffer } from '../kernel/calls.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { withMounted } from '../mount/open-mounted.ts';

/**
 * Grows mounted filesystems by ioctl, after checking that the mounted filesystem is on the device. All functions are
 * idempotent and do not disturb writers.
 */

/**
 * Grows a mounted ext4 to `blocks` blocks (EXT4_IOC_RESIZE_FS). KernelError EPERM without CAP_SYS_RESOURCE, and after
 * filesystem errors.
 */
export async function growExt4(
  lane: Lane,
  target: string,
  device: LoopDevice,
  blocks: bigint,
): Promise<void> {
  const argument = Buffer.alloc(8);
  argument.writeBigUInt64LE(blocks);
  await withMounted(lane, target, device, ({ fd }) =>
    ioctlWithBuffer(lane, fd, 'EXT4_IOC_RESIZE_FS', argument, {
      subject: target,
      timeoutMs: imageTimeoutMs,
    }),
  );
}

/**
 * Grows a mounted XFS to `sizeBytes` (XFS_IOC_FSGROWFSDATA) with an unchanged maximum percentage of inodes. Does
 * nothing if it already has that size.
 */
export async function growXfs(
  lane: Lane,
  target: string,
  device: LoopDevice,
  sizeBytes: bigint,
): Promise<void> {
  await withMounted(lane, target, device, async ({ fd }) => {
    const geometry = Buffer.alloc(layouts.xfs_fsop_geom.size);
    await ioctlWithBuffer(lane, fd, 'XFS_IOC_FSGEOMETRY', geometry, { subject: target });
    const geometryFields = layouts.xfs_fsop_geom.fields;
    const blocks = sizeBytes / BigInt(geometry.readUInt32LE(geometryFields.blocksize));
    if (blocks <= geometry.readBigUInt64LE(geometryFields.datablocks)) return;
    const layout = layouts.xfs_growfs_data;
    const argument = Buffer.alloc(layout.size);
    argument.writeBigUInt64LE(blocks, layout.fields.newblocks);
    argument.writeUInt32LE(geometry.readUInt32LE(geometryFields.imaxpct), layout.fields.imaxpct);
    const about = { subject: target, timeoutMs: imageTimeoutMs };
    await ioctlWithBuffer(lane, fd, 'XFS_IOC_FSGROWFSDATA', argument, about);
  });
}

/** Grows a mounted btrfs to the full size of its only device (BTRFS_IOC_RESIZE). */
export async function growBtrfs(lane: Lane, target: string, device: LoopDevice): Promise<void> {
  const { size, fields } = layouts.btrfs_ioctl_vol_args;
  const argument = Buffer.alloc(size);
  argument.write('1:max', fields.name, 'latin1');
  await withMounted(lane, target, device, ({ fd }) =>
    ioctlWithBuffer(lane, fd, 'BTRFS_IOC_RESIZE', argument, {
      subject: target,
      timeoutMs: imageTimeoutMs,
    }),
  );
}

/** Throws if the superblock still shows the smaller size after the filesystem was grown without an error. */
export function assertGrown(grown: boolean, imagePath: string, sizeBytes: bigint): void {
  if (grown) return;
  throw new CommandError('grow', {
    message: `the filesystem in ${imagePath} did not grow to ${sizeBytes} bytes`,
  });
}
