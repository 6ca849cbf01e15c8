import type { FileHandle } from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { LoopDevice } from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import { closeHandle, openFlags, openHandle, withOpen } from '../kernel/descriptor.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { type LoopScan } from './scan.ts';
import { clearAutoclear, isSameFile } from './status.ts';

/**
 * Descriptors that keep loop devices attached. When any process calls LOOP_CLR_FD (`losetup --detach`), the kernel sets
 * AUTOCLEAR and detaches the device at its last close. So the driver holds open each device in use, and clears the
 * flag.
 */
export class HeldDevices {
  readonly #scan: LoopScan;
  readonly #held = new Map<number, { readonly handle: FileHandle; readonly device: LoopDevice }>();

  constructor(scan: LoopScan) {
    this.#scan = scan;
  }

  /** Adds the descriptor of a newly attached device. */
  add(device: LoopDevice, handle: FileHandle): void {
    this.#held.set(device.number, { handle, device });
  }

  async hold(lane: Lane, device: LoopDevice): Promise<boolean> {
    if (this.#handleOf(device) !== undefined) return this.clearAutoclear(lane, device);
    // A stored handle now belongs to an earlier image of this number. LOOP_CHANGE_FD must have replaced that image,
    // since otherwise the handle would have kept it attached.
    await this.#close(lane, device.number);
    const handle = await openAttached(lane, device);
    if (handle === undefined) return false;
    let isAttached = false;
    try {
      isAttached = await clearAutoclear(lane, handle, device);
    } finally {
      if (!isAttached) await closeHandle(lane, handle, device.path);
    }
    if (isAttached) this.add(device, handle);
    return isAttached;
  }

  async clearAutoclear(lane: Lane, device: LoopDevice): Promise<boolean> {
    const now = this.#scan.currentState(device);
    if (now !== undefined && !now.autoclear) return true;
    const held = this.#handleOf(device);
    if (held !== undefined) return clearAutoclear(lane, held, device);
    const handle = await openAttached(lane, device);
    if (handle === undefined) return false;
    try {
      return await clearAutoclear(lane, handle, device);
    } finally {
      await closeHandle(lane, handle, device.path);
    }
  }

  /** Returns whether the device was held. */
  async release(lane: Lane, device: LoopDevice): Promise<boolean> {
    // The number may now belong to another image, whose descriptor must stay open.
    if (this.#handleOf(device) === undefined) return false;
    await this.#close(lane, device.number);
    return true;
  }

  async writeBack(lane: Lane, device: LoopDevice): Promise<void> {
    const flush = async ({ fd }: FileHandle): Promise<void> => {
      await ioctl(lane, fd, 'BLKFLSBUF', 0, { subject: device.path, timeoutMs: imageTimeoutMs });
    };
    const held = this.#handleOf(device);
    if (held === undefined) await withOpen(lane, device.path, openFlags.read, flush);
    else await flush(held);
  }

  #handleOf(device: LoopDevice): FileHandle | undefined {
    const held = this.#held.get(device.number);
    return held !== undefined && isSameFile(held.device.backing, device.backing)
      ? held.handle
      : undefined;
  }

  async #close(lane: Lane, number: number): Promise<void> {
    const held = this.#held.get(number);
    if (held === undefined) return;
    this.#held.delete(number);
    await closeHandle(lane, held.handle, held.device.path);
  }
}

async function openAttached(lane: Lane, { path }: LoopDevice): Promise<FileHandle | undefined> {
  try {
    return await openHandle(lane, path, openFlags.read);
  } catch (error) {
    if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
