import type { LoopDevice, Mount } from '../host.ts';

/** A bind mount of a loop device node onto a file, through which a container gets a block volume. */
export interface NodeBind {
  readonly mount: Mount;
  /** The number of the loop device when its node was bind-mounted. */
  readonly number: number;
  /** The node has since been removed, so the number may now belong to another device. */
  readonly isRemoved: boolean;
}

/**
 * The `root` field of such a bind mount in mountinfo. If /dev is a directory of a tmpfs, it starts with that directory.
 */
const nodeRoot = /\/loop(\d+)(\/\/deleted)?$/;

/** Returns the mount as a `NodeBind`, or undefined if it is not the bind mount of a loop device node. */
export function nodeBindOf(mount: Mount): NodeBind | undefined {
  if (mount.fsType !== 'devtmpfs' && mount.fsType !== 'tmpfs') return undefined;
  const found = nodeRoot.exec(mount.root);
  if (found === null) return undefined;
  return { mount, number: Number(found[1]), isRemoved: found[2] !== undefined };
}

/** The fields that identify a device in the mount table. */
type MountedDevice = Pick<LoopDevice, 'path' | 'majorMinor'>;

/**
 * Whether this is a mount of the filesystem on the device. btrfs has anonymous device numbers, so its source is
 * compared.
 */
export function isFilesystemOn(mount: Mount, device: MountedDevice): boolean {
  return (
    mount.majorMinor === device.majorMinor ||
    (mount.fsType === 'btrfs' && mount.source === device.path)
  );
}

/**
 * Whether this is a bind mount of a node with the device's number. Only the target shows which volume it belongs to.
 */
export function isNodeOf(mount: Mount, device: Pick<LoopDevice, 'number'>): boolean {
  const bind = nodeBindOf(mount);
  return bind !== undefined && !bind.isRemoved && bind.number === device.number;
}

/** Whether the mount exposes the device: its filesystem or its node. */
export function exposesDevice(mount: Mount, device: LoopDevice): boolean {
  return isFilesystemOn(mount, device) || isNodeOf(mount, device);
}
