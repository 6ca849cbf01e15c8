import { readFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { writeFile } from 'node:fs/promises';
import { hasErrno, KernelError } from '../errors.ts';
import type { AttachOptions, LoopDevice } from '../host.ts';
import { ioctl, ioctlWithBuffer, makeBlockNode, readKernelText } from '../kernel/calls.ts';
import { closeHandle, fsCall, openFlags, openHandle, withOpen } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { readMounts } from '../mount/mountinfo.ts';
import { incarnationOf, isUnresponsive, sysfsPath, waitUntilDetached } from './scan.ts';
import { encodeLoopConfig, isSameFile, readStatus } from './status.ts';

/** Kernel calls on a single loop device. devices.ts combines them to attach and detach. */

/**
 * How long another process may keep a detached device open before it counts as in use. The process may be udev, another
 * scan, or a starting container, which has a copy of the driver's mounts until it has set up its own; that takes a
 * second on a busy machine.
 */
export const detachTimeoutMs = 3_000;
export const controlPath = '/dev/loop-control';

let control: Promise<FileHandle> | undefined;

/**
 * Returns a descriptor of /dev/loop-control, which is opened on first use and never closed; it does not keep any device
 * in use. ENOENT if the node is missing.
 */
export async function openControl(lane: Lane): Promise<number> {
  control ??= openHandle(lane, controlPath, openFlags.readWrite);
  try {
    return (await control).fd;
  } catch (error) {
    control = undefined;
    throw error;
  }
}

/** An attached device with the identity of its attachment. */
interface NewAttachment extends AttachedDevice {
  /** See `incarnationOf`. Read while the device was open, so it belongs to this attachment. */
  readonly incarnation: bigint | undefined;
}

/** An attached device and, with `hold` or `autoclear`, the descriptor that keeps it attached. */
interface AttachedDevice {
  readonly device: LoopDevice;
  readonly held: FileHandle | undefined;
}

/**
 * Attaches the image to device `number`. Returns undefined if the number cannot be used: another process took it, or
 * settings left by its last user make it unusable (the device has then been replaced by a fresh one).
 */
export async function attachNumber(
  lane: Lane,
  number: number,
  imageFd: number,
  options: AttachOptions,
): Promise<NewAttachment | undefined> {
  const path = `/dev/loop${number}`;
  let handle: FileHandle;
  try {
    handle = await openHandle(lane, path, openFlags.readWrite);
  } catch (error) {
    // The device may have been removed (LOOP_CTL_REMOVE) before it was opened, or /dev may lack its node.
    if (!hasErrno(error, 'ENXIO', 'ENODEV', 'ENOENT')) throw error;
    await makeMissingNode(lane, number, path);
    return undefined;
  }
  let outcome: AttachedDevice | 'taken' | 'unusable';
  let incarnation: bigint | undefined;
  try {
    outcome = await attachOpened(lane, handle, { number, path }, imageFd, options);
    incarnation = incarnationOf(number);
  } finally {
    await closeHandle(lane, handle, path);
  }
  if (outcome === 'unusable') {
    // Another process that is trying this number may have it open briefly. Wait: the image must not be on two devices.
    await waitUntilDetached(number, incarnation, detachTimeoutMs);
    await replaceDevice(lane, number);
  }
  if (typeof outcome === 'string') return undefined;
  return { ...outcome, incarnation };
}

async function attachOpened(
  lane: Lane,
  handle: FileHandle,
  { number, path }: { number: number; path: string },
  imageFd: number,
  options: AttachOptions,
): Promise<AttachedDevice | 'taken' | 'unusable'> {
  try {
    await ioctlWithBuffer(lane, handle.fd, 'LOOP_CONFIGURE', encodeLoopConfig(imageFd, options), {
      subject: path,
    });
  } catch (error) {
    if (hasErrno(error, 'EBUSY')) return 'taken';
    throw error;
  }
  try {
    if (options.discard && !options.readOnly && (await isDiscardDisabled(lane, number))) {
      await ioctl(lane, handle.fd, 'LOOP_CLR_FD', 0, { subject: path });
      return 'unusable';
    }
    if (!options.discard && !options.readOnly) await disableDiscard(lane, number);
    if (options.dirtyLimitBytes !== undefined)
      await limitDirtyPages(lane, number, options.dirtyLimitBytes);
    const device = await readStatus(lane, handle, path);
    if (options.hold !== true && options.autoclear !== true) return { device, held: undefined };
    // The descriptor used to attach is writable, and a kernel may refuse to mount a device that has a writer. So open
    // another.
    return { device, held: await openHandle(lane, path, openFlags.read) };
  } catch (error) {
    await ioctl(lane, handle.fd, 'LOOP_CLR_FD', 0, { subject: path }).catch(() => undefined);
    throw error;
  }
}

/** Creates the node of an existing device that is missing in /dev, as in a container with its own /dev. */
async function makeMissingNode(lane: Lane, number: number, path: string): Promise<void> {
  // On devtmpfs the kernel is about to create the node itself.
  const dev = (await readMounts(lane)).findLast(({ target }) => target === '/dev');
  if (dev?.fsType === 'devtmpfs') return;
  try {
    await makeBlockNode(
      lane,
      path,
      (await readKernelText(lane, sysfsPath(number, 'dev'))).trimEnd(),
    );
  } catch (error) {
    // The node exists now, or the device was removed.
    if (!hasErrno(error, 'EEXIST', 'ENOENT', 'ENODEV')) throw error;
  }
}

/**
 * LOOP_CLR_FD if the device is still attached to the image of `device`; otherwise returns false. If the image's
 * filesystem does not answer, `isStillAttached` decides instead; its result remains valid while the device is open.
 */
export async function clearFd(
  lane: Lane,
  device: LoopDevice,
  isStillAttached: () => boolean,
): Promise<boolean> {
  try {
    await withOpen(lane, device.path, openFlags.read, async (handle) => {
      try {
        await requireSameImage(lane, handle, device);
      } catch (error) {
        if (!isUnresponsive(error) || !isStillAttached()) throw error;
      }
      await ioctl(lane, handle.fd, 'LOOP_CLR_FD', 0, { subject: device.path });
    });
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return false;
    throw error;
  }
}

/** Throws KernelError ENXIO if the number was detached, or attached to another file, since `device` was read. */
export async function requireSameImage(
  lane: Lane,
  handle: FileHandle,
  device: LoopDevice,
): Promise<void> {
  const { backing } = await readStatus(lane, handle, device.path);
  if (!isSameFile(backing, device.backing)) {
    throw new KernelError('open', 'ENXIO', `${device.path} (now attached to another file)`);
  }
}

/** Whether the device has settings that outlive a detach and would affect the next user of its number. */
export async function hasStickySettings(lane: Lane, number: number): Promise<boolean> {
  return hasDirtyLimit(number) || (await isDiscardDisabled(lane, number));
}

/**
 * Replaces the device by a new one with the same number and default settings (LOOP_CTL_REMOVE, LOOP_CTL_ADD). May fail
 * silently: attach checks the settings again.
 */
export async function replaceDevice(lane: Lane, number: number): Promise<void> {
  const subject = `/dev/loop${number}`;
  try {
    const fd = await openControl(lane);
    await ioctl(lane, fd, 'LOOP_CTL_REMOVE', number, { subject });
    await ioctl(lane, fd, 'LOOP_CTL_ADD', number, { subject });
  } catch (error) {
    // In the meantime, another process attached, opened, removed or added the device.
    if (!hasErrno(error, 'EBUSY', 'ENODEV', 'EEXIST')) throw error;
  }
}

/** Whether the device supports discard but its discard limit was set to 0. */
async function isDiscardDisabled(lane: Lane, number: number): Promise<boolean> {
  if ((await readSysfsNumber(lane, number, 'queue/discard_max_bytes')) !== 0n) return false;
  // If the pool's filesystem cannot punch holes, both limits are 0 and nothing was changed.
  return (await readSysfsNumber(lane, number, 'queue/discard_max_hw_bytes')) !== 0n;
}

async function disableDiscard(lane: Lane, number: number): Promise<void> {
  const path = sysfsPath(number, 'queue/discard_max_bytes');
  await fsCall(lane, 'write', path, () => writeFile(path, '0'));
}

/**
 * Limits dirty pages if the kernel can. A kernel without these files (before 6.2) has more to flush during a freeze.
 */
async function limitDirtyPages(lane: Lane, number: number, bytes: bigint): Promise<void> {
  for (const [file, value] of [
    ['bdi/strict_limit', '1'],
    ['bdi/max_bytes', bytes.toString()],
  ] as const) {
    const path = sysfsPath(number, file);
    try {
      await fsCall(lane, 'write', path, () => writeFile(path, value));
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'EACCES', 'EINVAL')) throw error;
    }
  }
}

/** Reads the setting synchronously: unlike queue attributes, the kernel shows it without acquiring a lock. */
function hasDirtyLimit(number: number): boolean {
  try {
    const limit = readFileSync(sysfsPath(number, 'bdi/strict_limit'), 'latin1').trim();
    return limit !== '0';
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return false;
    throw error;
  }
}

/** Reads a number from sysfs; undefined if this kernel has no such file, or the device was removed. */
async function readSysfsNumber(
  lane: Lane,
  number: number,
  file: string,
): Promise<bigint | undefined> {
  try {
    const text = (await readKernelText(lane, sysfsPath(number, file))).trim();
    return /^\d+$/.test(text) ? BigInt(text) : undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
