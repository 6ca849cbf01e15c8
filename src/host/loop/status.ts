import { createHash } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { AttachOptions, FileIdentity, LoopDevice } from '../host.ts';
import { constants, layouts } from '../kernel/abi.ts';
import { ioctlSync, ioctlUngated, ioctlWithBuffer } from '../kernel/calls.ts';
import { fsCall, majorMinorOf, openFlags, toKernelError } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** Prefix of lo_file_name of the driver's devices. */
const labelPrefix = 'loopcsi:';
/** lo_file_name has 64 bytes, including the terminating zero. */
const labelBytes = 63;

/** How many bytes of a long label precede its hash, so that operators can recognise it. */
const readableBytes = 20;

/**
 * The lo_file_name of a device attached with this label. If the label does not fit, it is truncated and a hash
 * distinguishes it from others with the same beginning; no id contains a `~`.
 */
export function labelOf(label: string): string {
  const whole = `${labelPrefix}${label}`;
  if (Buffer.byteLength(whole) <= labelBytes) return whole;
  const hash = createHash('sha256').update(label).digest('hex').slice(0, 32);
  return `${labelPrefix}${label.replace(/[^\w.-]/g, '_').slice(0, readableBytes)}~${hash}`;
}

/** The lo_file_name that loopcsi 0.1.0 wrote: a truncated label, which several ids may share. */
export function truncatedLabelOf(label: string): string {
  return Buffer.from(`${labelPrefix}${label}`).subarray(0, labelBytes).toString();
}

/** Whether the device was attached by a loopcsi driver, this one or another. */
export function isLabelled({ label }: LoopDevice): boolean {
  return label.startsWith(labelPrefix);
}

/** The id in the label of a driver's device; undefined if the label was shortened, or is not of a driver. */
export function labelledId(device: LoopDevice): string | undefined {
  if (!isLabelled(device) || device.label.length >= labelBytes) return undefined;
  const id = device.label.slice(labelPrefix.length);
  return id.includes('~') ? undefined : id;
}

/** Whether both identify the same file. */
export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/** Whether the device is attached to the image; false if `image` is undefined. */
export function isOnImage({ backing }: LoopDevice, image: FileIdentity | undefined): boolean {
  return image !== undefined && isSameFile(image, backing);
}

/** LOOP_GET_STATUS64 of an open loop device. KernelError ENXIO if nothing is attached. */
export async function readStatus(
  lane: Lane,
  handle: FileHandle,
  path: string,
): Promise<LoopDevice> {
  const info = Buffer.alloc(layouts.loop_info64.size);
  await ioctlWithBuffer(lane, handle.fd, 'LOOP_GET_STATUS64', info, { subject: path });
  return decodeStatus(info, handle, path);
}

/**
 * LOOP_GET_STATUS64 of the device at `path`, which is opened, queried and closed in one pass through the gate.
 * Otherwise the device would stay open while a call waits for its turn, and other processes could not detach it.
 */
export function readStatusAt(
  lane: Lane,
  path: string,
  options: { readonly timeoutMs?: number } = {},
): Promise<LoopDevice> {
  const ask = async (): Promise<LoopDevice> => {
    const handle = await open(path, openFlags.read).catch((error: unknown) => {
      throw toKernelError(error, 'open', path);
    });
    try {
      const info = Buffer.alloc(layouts.loop_info64.size);
      await ioctlUngated(handle.fd, 'LOOP_GET_STATUS64', info, path);
      return decodeStatus(info, handle, path);
    } finally {
      await handle.close();
    }
  };
  return fsCall(lane, 'LOOP_GET_STATUS64', path, ask, options);
}

function decodeStatus(info: Buffer, handle: FileHandle, path: string): LoopDevice {
  // All of these are in kernel memory, so the calls do not block.
  const sectorSize = Buffer.alloc(4);
  const sizeBytes = Buffer.alloc(8);
  ioctlSync(handle.fd, 'BLKSSZGET', sectorSize, path);
  ioctlSync(handle.fd, 'BLKGETSIZE64', sizeBytes, path);
  const { rdev } = fstatSync(handle.fd, { bigint: true });
  const fields = layouts.loop_info64.fields;
  const name = info.subarray(fields.lo_file_name, fields.lo_file_name + labelBytes + 1);
  const flags = info.readUInt32LE(fields.lo_flags);
  return {
    number: info.readUInt32LE(fields.lo_number),
    path,
    majorMinor: majorMinorOf(rdev),
    backing: backingOf(info),
    label: name.toString('utf8', 0, Math.max(0, name.indexOf(0))),
    readOnly: (flags & constants.LO_FLAGS_READ_ONLY) !== 0,
    directIo: (flags & constants.LO_FLAGS_DIRECT_IO) !== 0,
    autoclear: (flags & constants.LO_FLAGS_AUTOCLEAR) !== 0,
    sectorSize: sectorSize.readUInt32LE(),
    sizeBytes: sizeBytes.readBigUInt64LE(),
  };
}

/** The image of an attached device, in a loop_info64. */
function backingOf(info: Buffer): FileIdentity {
  const fields = layouts.loop_info64.fields;
  return {
    device: info.readBigUInt64LE(fields.lo_device),
    inode: info.readBigUInt64LE(fields.lo_inode),
  };
}

/**
 * Clears AUTOCLEAR of an open device and changes nothing else (LOOP_SET_STATUS64). Returns whether the device is
 * attached to the image of `device`. If so, it stays attached, even after the descriptor is closed.
 */
export async function clearAutoclear(
  lane: Lane,
  handle: FileHandle,
  device: LoopDevice,
): Promise<boolean> {
  const info = Buffer.alloc(layouts.loop_info64.size);
  const fields = layouts.loop_info64.fields;
  const about = { subject: device.path };
  try {
    await ioctlWithBuffer(lane, handle.fd, 'LOOP_GET_STATUS64', info, about);
    if (!isSameFile(backingOf(info), device.backing)) return false;
    const flags = info.readUInt32LE(fields.lo_flags);
    if ((flags & constants.LO_FLAGS_AUTOCLEAR) === 0) return true;
    info.writeUInt32LE(flags & ~constants.LO_FLAGS_AUTOCLEAR, fields.lo_flags);
    await ioctlWithBuffer(lane, handle.fd, 'LOOP_SET_STATUS64', info, about);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENXIO')) return false;
    throw error;
  }
}

/** Encodes the argument of LOOP_CONFIGURE. */
export function encodeLoopConfig(imageFd: number, options: AttachOptions): Buffer {
  const fields = layouts.loop_config.fields;
  const infoFields = layouts.loop_info64.fields;
  const config = Buffer.alloc(layouts.loop_config.size);
  config.writeUInt32LE(imageFd, fields.fd);
  // Never 0: the kernel would then choose a size suitable for direct I/O, which changes after a file has been cloned.
  config.writeUInt32LE(options.sectorSize, fields.block_size);
  const flags =
    (options.readOnly ? constants.LO_FLAGS_READ_ONLY : 0) |
    (options.autoclear === true ? constants.LO_FLAGS_AUTOCLEAR : 0) |
    (options.directIo ? constants.LO_FLAGS_DIRECT_IO : 0);
  config.writeUInt32LE(flags, fields.info + infoFields.lo_flags);
  config.write(labelOf(options.label), fields.info + infoFields.lo_file_name);
  return config;
}
