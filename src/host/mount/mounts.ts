import { closeSync, fstatSync } from 'node:fs';
import { retry } from '../../async.ts';
import { hasErrno, KernelError } from '../errors.ts';
import type { FsType, LoopDevice, Mount, Mounts, TargetOptions } from '../host.ts';
import { constants, layouts } from '../kernel/abi.ts';
import {
  ioctl,
  ioctlWithBuffer,
  mount,
  mountSetattr,
  moveMount,
  openTreeClone,
  syncfs,
  umount2,
} from '../kernel/calls.ts';
import {
  closeEventually,
  descriptorPath,
  openFlags,
  useAndClose,
  withDescriptor,
  withOpen,
} from '../kernel/descriptor.ts';
import { mountDetached } from '../kernel/detached.ts';
import { imageTimeoutMs, mountTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { findMountAndOthers, findMountAt, readMounts } from './mountinfo.ts';
import { withMounted } from './open-mounted.ts';
import { splitMountOptions } from './options.ts';
import { makeTarget, removeTarget, withParent, withTarget } from './target.ts';

/**
 * How long an unmount is retried on EBUSY: a child process that is being spawned may have a file open for an instant.
 */
const busyTimeoutMs = 500;

type UnmountOptions = NonNullable<Parameters<Mounts['unmount']>[1]>;

/** Manages mounts with kernel calls. */
export function makeMounts(lane: Lane): Mounts {
  return {
    list: () => readMounts(lane),
    at: (target) => findMountAt(lane, target),
    mountDevice: (device, target, options) => mountDevice(lane, device, target, options),
    bind: (source, target, options) => bind(lane, source, target, options),
    unmount: (target, options) => unmount(lane, target, options),
    makeTarget: (target, kind, options = {}) => makeTarget(lane, target, kind, options),
    removeTarget: (target, options = {}) => removeTarget(lane, target, options),
    syncFilesystem: (target) =>
      withDescriptor(lane, target, openFlags.directory, (fd) => syncfs(lane, fd, target)),
    trim: (target, device, options) => trim(lane, target, device, options),
    thaw: (target, device) =>
      withMounted(lane, target, device, ({ fd }) => thawDescriptor(lane, fd, target)),
    thawWithoutMount: (device, fsType) => thawWithoutMount(lane, device, fsType),
  };
}

async function mountDevice(
  lane: Lane,
  device: string,
  target: string,
  options: Parameters<Mounts['mountDevice']>[2],
): Promise<void> {
  const { flags, data } = splitMountOptions(options.options);
  const mountOnce = () =>
    withTarget(lane, target, { root: options.root, kind: 'directory' }, (fd) =>
      mount(lane, device, descriptorPath(fd), { fsType: options.fsType, flags, data }, target),
    );
  await mountOnce();
  if (
    options.fsType !== 'btrfs' ||
    (await unmountDuplicate(lane, device, target, options)) === undefined
  )
    return;
  // That attempt registered this device with the kernel, so the next one finds it.
  await mountOnce();
  const duplicate = await unmountDuplicate(lane, device, target, options);
  if (duplicate === undefined) return;
  const subject = `${device} on ${target} (the kernel mounts ${duplicate} instead, which has the same UUID)`;
  throw new KernelError('mount', 'EEXIST', subject);
}

/**
 * btrfs finds devices by the UUID of their filesystem. Before Linux 6.7 it may mount another registered device with the
 * same UUID (`btrfs device scan`, udev), such as a copy of an image. In that case, unmounts it and returns its source;
 * undefined if the right device is mounted.
 */
async function unmountDuplicate(
  lane: Lane,
  device: string,
  target: string,
  options: TargetOptions,
): Promise<string | undefined> {
  const mounted = await findMountAt(lane, target);
  if (mounted === undefined || mounted.source === device) return undefined;
  await unmount(lane, target, options);
  return mounted.source;
}

/**
 * Sets the attributes on a detached copy of the source's mount and then moves it onto the opened target. So the mount
 * is never visible without its attributes, and replacing the target after it was opened has no effect.
 */
async function bind(
  lane: Lane,
  source: string,
  target: string,
  options: Parameters<Mounts['bind']>[2],
): Promise<void> {
  const attributes =
    (options.readOnly ? constants.MOUNT_ATTR_RDONLY : 0) |
    (options.noSuid === true ? constants.MOUNT_ATTR_NOSUID : 0) |
    (options.noDev === true ? constants.MOUNT_ATTR_NODEV : 0) |
    (options.noExec === true ? constants.MOUNT_ATTR_NOEXEC : 0);
  const subject = `${source} on ${target}`;
  const tree = await openTreeClone(lane, source, closeSync);
  // An open descriptor of the tree would make the next unmount fail with EBUSY. After the move, closing it does not
  // block.
  await useAndClose(lane, tree, { isPathOnly: true }, async () => {
    await mountSetattr(lane, tree, attributes, constants.MS_PRIVATE, subject);
    // The source is a mounted volume, so the kernel has the inode of its root in memory.
    const kind = fstatSync(tree).isDirectory() ? 'directory' : 'file';
    await withTarget(lane, target, { root: options.root, kind }, (fd) =>
      moveMount(lane, tree, fd, subject),
    );
  });
}

function unmount(lane: Lane, target: string, options: UnmountOptions = {}): Promise<void> {
  return retry(() => unmountOnce(lane, target, options), {
    isTransient: (error) => hasErrno(error, 'EBUSY'),
    timeoutMs: busyTimeoutMs,
    pauseMs: 5,
    maxPauseMs: 80,
  });
}

async function unmountOnce(lane: Lane, target: string, options: UnmountOptions): Promise<void> {
  const mounted = await findMountAndOthers(lane, target);
  if (mounted === undefined) return;
  try {
    await withParent(lane, target, options, async (path) => {
      const isLast = mounted.others.length === 0;
      if (isLast && options.keepFrozen !== true) await thawLastMount(lane, mounted.found, path);
      await umount2(lane, path, constants.UMOUNT_NOFOLLOW, target);
    });
  } catch (error) {
    // EINVAL and ENOENT: another process may have unmounted it. mountinfo shows whether it did.
    if (hasErrno(error, 'EINVAL', 'ENOENT') && (await findMountAt(lane, target)) === undefined)
      return;
    throw error;
  }
}

/**
 * Unmounting a frozen filesystem succeeds, but its superblock stays active, frozen and without a mount. So the
 * filesystem is thawed before its last mount in this namespace is unmounted; while it has other mounts, a freeze in
 * progress must continue.
 */
async function thawLastMount(lane: Lane, found: Mount, path: string): Promise<void> {
  const isLoop = found.majorMinor.startsWith('7:') || found.source.startsWith('/dev/loop');
  if (!isLoop) return;
  try {
    await withDescriptor(lane, path, openFlags.directory, (fd) =>
      thawDescriptor(lane, fd, found.target),
    );
  } catch (error) {
    // ENOTDIR: another process bind-mounted a single file of the volume. EIO and EUCLEAN: the filesystem was shut down
    // after an error; nothing on it can be opened, and it must still be unmounted.
    if (!hasErrno(error, 'ENOTDIR', 'EIO', 'EUCLEAN')) throw error;
  }
}

/** FITHAW. Returns whether the filesystem was frozen. */
async function thawDescriptor(lane: Lane, fd: number, target: string): Promise<boolean> {
  try {
    await ioctl(lane, fd, 'FITHAW', 0, { subject: target });
    return true;
  } catch (error) {
    if (hasErrno(error, 'EINVAL')) return false;
    throw error;
  }
}

async function thawWithoutMount(lane: Lane, device: LoopDevice, fsType: FsType): Promise<boolean> {
  const detached = await mountActiveSuperblock(lane, device, fsType);
  try {
    // The descriptor of a detached mount is O_PATH, but ioctls need one that is open for reading.
    return await withOpen(lane, descriptorPath(detached), openFlags.directoryFollowed, ({ fd }) =>
      thawDescriptor(lane, fd, device.path),
    );
  } finally {
    await unmountDetached(lane, detached);
  }
}

/** Mounts an active superblock without a path. The read-only flag must match the superblock's, so both are tried. */
async function mountActiveSuperblock(
  lane: Lane,
  device: LoopDevice,
  fsType: FsType,
): Promise<number> {
  const onLate = (fd: number) => void unmountDetached(lane, fd);
  try {
    return await mountDetached(lane, device.path, { fsType, readOnly: device.readOnly }, onLate);
  } catch (error) {
    if (device.readOnly || !hasErrno(error, 'EBUSY')) throw error;
    return mountDetached(lane, device.path, { fsType, readOnly: true }, onLate);
  }
}

/** Unmounts a detached mount. This writes all dirty data to the disk if nothing else uses the filesystem. */
function unmountDetached(lane: Lane, fd: number): Promise<void> {
  return closeEventually(lane, fd, { timeoutMs: mountTimeoutMs });
}

async function trim(
  lane: Lane,
  target: string,
  device: LoopDevice,
  { offset, length }: Parameters<Mounts['trim']>[2],
): Promise<bigint | undefined> {
  return withMounted(lane, target, device, async ({ fd }) => {
    const { size, fields } = layouts.fstrim_range;
    const range = Buffer.alloc(size);
    range.writeBigUInt64LE(offset, fields.start);
    range.writeBigUInt64LE(length, fields.len);
    try {
      await ioctlWithBuffer(lane, fd, 'FITRIM', range, {
        subject: target,
        timeoutMs: imageTimeoutMs,
      });
    } catch (error) {
      // The range begins after the end of the filesystem.
      if (offset > 0n && hasErrno(error, 'EINVAL')) return undefined;
      throw error;
    }
    return range.readBigUInt64LE(fields.len);
  });
}
