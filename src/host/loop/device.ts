import { readFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { writeFile } from 'node:fs/promises';
import { hasErrno, KernelError } from '../errors.ts';
import type { AttachOptions, LoopDevice } from '../host.ts';
import { ioctl, ioctlOn, makeBlockNode, readKernelText } from '../kernel/calls.ts';
import { closeHandle, fsCall, openFlags, openHandle, withOpen } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { readMounts } from '../mount/mountinfo.ts';
import { incarnationOf, isSameFile, isUnresponsive, sysfsPath, waitUntilGone } from './scan.ts';
import { encodeLoopConfig, readStatus } from './status.ts';

/** Steps on one loop device; devices.ts makes attach and detach of them. */

/**
 * How long another process may keep a detached device open before it counts as in use: udev, another scan, or a
 * container that is starting and has a copy of our mounts until it has made its own, which takes a second on a busy
 * machine.
 */
export const detachTimeoutMs = 3_000;
const controlPath = '/dev/loop-control';

let control: Promise<FileHandle> | undefined;

/**
 * A descriptor of /dev/loop-control, opened on first use and kept; it keeps no device in use. ENOENT if the node is
 * missing.
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

/** A newly attached device and, with `hold` or `autoclear`, the descriptor that keeps it attached. */
interface Configured extends Attached {
  /** See `incarnationOf`; read while the device was open. */
  readonly incarnation: bigint | undefined;
}

interface Attached {
  readonly device: LoopDevice;
  readonly held: FileHandle | undefined;
}

/**
 * Attaches the image to device `number`. undefined when the number cannot be used: another process took it, or settings
 * left by its last user make it unusable (it was then replaced by a fresh device).
 */
export async function configure(
  lane: Lane,
  number: number,
  imageFd: number,
  options: AttachOptions,
): Promise<Configured | undefined> {
  const path = `/dev/loop${number}`;
  let handle: FileHandle;
  try {
    handle = await openHandle(lane, path, openFlags.readWrite);
  } catch (error) {
    // The device can be removed (LOOP_CTL_REMOVE) before it is opened, or /dev can lack its node.
    if (!hasErrno(error, 'ENXIO', 'ENODEV', 'ENOENT')) throw error;
    await makeMissingNode(lane, number, path);
    return undefined;
  }
  let outcome: Attached | 'taken' | 'unusable';
  let incarnation: bigint | undefined;
  try {
    outcome = await configureOpen(lane, handle, { number, path }, imageFd, options);
    incarnation = incarnationOf(number);
  } finally {
    await closeHandle(lane, handle, path);
  }
  if (outcome === 'unusable') {
    // Another process trying this number may keep it open briefly. Wait: the image must not be on two devices.
    await waitUntilGone(number, incarnation, detachTimeoutMs);
    await replaceDevice(lane, number);
  }
  if (typeof outcome === 'string') return undefined;
  return { ...outcome, incarnation };
}

async function configureOpen(
  lane: Lane,
  handle: FileHandle,
  { number, path }: { number: number; path: string },
  imageFd: number,
  options: AttachOptions,
): Promise<Attached | 'taken' | 'unusable'> {
  try {
    await ioctlOn(lane, handle.fd, 'LOOP_CONFIGURE', encodeLoopConfig(imageFd, options), {
      subject: path,
    });
  } catch (error) {
    if (hasErrno(error, 'EBUSY')) return 'taken';
    throw error;
  }
  try {
    if (options.discard && !options.readOnly && (await isDiscardSwitchedOff(lane, number))) {
      await ioctl(lane, handle.fd, 'LOOP_CLR_FD', 0, { subject: path });
      return 'unusable';
    }
    if (!options.discard && !options.readOnly) await switchDiscardOff(lane, number);
    if (options.dirtyLimitBytes !== undefined)
      await limitDirty(lane, number, options.dirtyLimitBytes);
    const device = await readStatus(lane, handle, path);
    if (options.hold !== true && options.autoclear !== true) return { device, held: undefined };
    // Not the descriptor used to attach, which is writable: a kernel may refuse to mount a device with a writer.
    return { device, held: await openHandle(lane, path, openFlags.read) };
  } catch (error) {
    await ioctl(lane, handle.fd, 'LOOP_CLR_FD', 0, { subject: path }).catch(() => undefined);
    throw error;
  }
}

/** Makes the node of a device that the kernel has and /dev lacks, as in a container with its own /dev. */
async function makeMissingNode(lane: Lane, number: number, path: string): Promise<void> {
  // On devtmpfs the kernel is about to make the node; ours would be in its way.
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
    if (!hasErrno(error, 'EEXIST', 'ENOENT')) throw error;
  }
}

/**
 * LOOP_CLR_FD if the device is still attached to the image of `device`; false when it is not. `isStillAttached` confirms that
 * for a device whose image does not answer; it stays true while the device is open.
 */
export async function clearFd(
  lane: Lane,
  device: LoopDevice,
  isStillAttached: () => boolean,
): Promise<boolean> {
  try {
    await withOpen(lane, device.path, openFlags.read, async (handle) => {
      try {
        await checkSame(lane, handle, device);
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

/** KernelError ENXIO when the number was detached, or attached to another file, since `device` was read. */
export async function checkSame(lane: Lane, handle: FileHandle, device: LoopDevice): Promise<void> {
  const { backing } = await readStatus(lane, handle, device.path);
  if (!isSameFile(backing, device.backing)) {
    throw new KernelError('open', 'ENXIO', `${device.path}: is attached to another file now`);
  }
}

/** Whether the number has settings that outlive a detach and would affect its next user. */
export async function hasStickySettings(lane: Lane, number: number): Promise<boolean> {
  return hasDirtyLimit(number) || (await isDiscardSwitchedOff(lane, number));
}

/**
 * LOOP_CTL_REMOVE and LOOP_CTL_ADD: the same number with the settings of a new device. Best effort: attach checks
 * again.
 */
export async function replaceDevice(lane: Lane, number: number): Promise<void> {
  const subject = `/dev/loop${number}`;
  try {
    const fd = await openControl(lane);
    await ioctl(lane, fd, 'LOOP_CTL_REMOVE', number, { subject });
    await ioctl(lane, fd, 'LOOP_CTL_ADD', number, { subject });
  } catch (error) {
    // Another process attached, opened, removed or added the device meanwhile.
    if (!hasErrno(error, 'EBUSY', 'ENODEV', 'EEXIST')) throw error;
  }
}

/** Whether the discard limit of a device that supports discard was set to 0. */
async function isDiscardSwitchedOff(lane: Lane, number: number): Promise<boolean> {
  if ((await readNumber(lane, number, 'queue/discard_max_bytes')) !== 0n) return false;
  // If the filesystem of the pool cannot punch holes, both limits are 0: nothing was changed.
  return (await readNumber(lane, number, 'queue/discard_max_hw_bytes')) !== 0n;
}

async function switchDiscardOff(lane: Lane, number: number): Promise<void> {
  const path = sysfsPath(number, 'queue/discard_max_bytes');
  await fsCall(lane, 'write', path, () => writeFile(path, '0'));
}

/** Best effort: a kernel without these files (before 6.2) flushes more during a freeze. */
async function limitDirty(lane: Lane, number: number, bytes: bigint): Promise<void> {
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

/** Synchronous: unlike settings of the queue, the kernel shows this one without taking a lock. */
function hasDirtyLimit(number: number): boolean {
  try {
    const limit = readFileSync(sysfsPath(number, 'bdi/strict_limit'), 'latin1').trim();
    return limit !== '0';
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return false;
    throw error;
  }
}

/** Reads a number from sysfs; undefined when this kernel has no such file, or the device was removed. */
async function readNumber(lane: Lane, number: number, file: string): Promise<bigint | undefined> {
  try {
    const text = (await readKernelText(lane, sysfsPath(number, file))).trim();
    return /^\d+$/.test(text) ? BigInt(text) : undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
