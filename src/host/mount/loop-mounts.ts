import type { LoopDevice, Mount } from '../host.ts';

/** The device node of a loop device, bound onto a file: how a block volume reaches its container. */
export interface NodeBind {
  readonly mount: Mount;
  /** Of the loop device that the node belonged to when it was bound. */
  readonly number: number;
  /** The node was removed since, so whatever has the number now is another device. */
  readonly isRemoved: boolean;
}

/** The root of such a bind, as mountinfo writes it. */
const nodeRoot = /^\/loop(\d+)(\/\/deleted)?$/;

/** undefined for every other mount. */
export function nodeBindOf(mount: Mount): NodeBind | undefined {
  if (mount.fsType !== 'devtmpfs' && mount.fsType !== 'tmpfs') return undefined;
  const found = nodeRoot.exec(mount.root);
  if (found === null) return undefined;
  return { mount, number: Number(found[1]), isRemoved: found[2] !== undefined };
}

/** What identifies a device in the mount table. */
type MountedDevice = Pick<LoopDevice, 'path' | 'majorMinor'>;

/** Whether that mount is of the filesystem on that device. A btrfs has a device number of its own, so its source is compared. */
export function isFilesystemOn(mount: Mount, device: MountedDevice): boolean {
  return (
    mount.majorMinor === device.majorMinor ||
    (mount.fsType === 'btrfs' && mount.source === device.path)
  );
}

/** Whether that mount binds a node with the device's number. Which volume the bind belongs to, only its target says. */
export function isNodeOf(mount: Mount, device: Pick<LoopDevice, 'number'>): boolean {
  const bind = nodeBindOf(mount);
  return bind !== undefined && !bind.isRemoved && bind.number === device.number;
}

/** Whether that mount shows the device: as its filesystem, or as its node. */
export function showsDevice(mount: Mount, device: LoopDevice): boolean {
  return isFilesystemOn(mount, device) || isNodeOf(mount, device);
}
