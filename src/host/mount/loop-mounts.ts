import type { LoopDevice, Mount } from '../host.ts';

/** A bind of the node of a loop device onto a file: how a block volume reaches its container. */
export interface NodeBind {
  readonly mount: Mount;
  /** The number of the loop device when its node was bound. */
  readonly number: number;
  /** The node has been removed since, so the number may belong to another device. */
  readonly isRemoved: boolean;
}

/** The root of such a bind in mountinfo. */
const nodeRoot = /^\/loop(\d+)(\/\/deleted)?$/;

/** Returns undefined for every other mount. */
export function nodeBindOf(mount: Mount): NodeBind | undefined {
  if (mount.fsType !== 'devtmpfs' && mount.fsType !== 'tmpfs') return undefined;
  const found = nodeRoot.exec(mount.root);
  if (found === null) return undefined;
  return { mount, number: Number(found[1]), isRemoved: found[2] !== undefined };
}

/** Fields that identify a device in the mount table. */
type MountedDevice = Pick<LoopDevice, 'path' | 'majorMinor'>;

/**
 * Whether the mount is of the filesystem on the device. The device number of a btrfs is anonymous, so its source is
 * compared.
 */
export function isFilesystemOn(mount: Mount, device: MountedDevice): boolean {
  return (
    mount.majorMinor === device.majorMinor ||
    (mount.fsType === 'btrfs' && mount.source === device.path)
  );
}

/**
 * Whether the mount binds a node with the number of the device. Only the target shows which volume the bind belongs to.
 */
export function isNodeOf(mount: Mount, device: Pick<LoopDevice, 'number'>): boolean {
  const bind = nodeBindOf(mount);
  return bind !== undefined && !bind.isRemoved && bind.number === device.number;
}

/** Whether the mount shows the device: its filesystem, or its node. */
export function showsDevice(mount: Mount, device: LoopDevice): boolean {
  return isFilesystemOn(mount, device) || isNodeOf(mount, device);
}
