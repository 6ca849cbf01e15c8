import type { FileHandle } from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { LoopDevice } from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import { closeHandle, openFlags, openHandle, syncBoundMs, withOpen } from '../kernel/descriptor.ts';
import { isSame, type LoopScan } from './scan.ts';
import { clearAutoclear } from './status.ts';

/**
 * Descriptors that keep loop devices attached. The kernel detaches a device at LOOP_CLR_FD (`losetup --detach`, by anybody) as
 * soon as nobody has it open, and remembers that in AUTOCLEAR: so a device in use is kept open, and the flag is taken back.
 */
export class HeldDevices {
  readonly #scan: LoopScan;
  readonly #held = new Map<number, { readonly handle: FileHandle; readonly device: LoopDevice }>();

  constructor(scan: LoopScan) {
    this.#scan = scan;
  }

  /** Takes over a descriptor of a device that was just attached. */
  add(device: LoopDevice, handle: FileHandle): void {
    this.#held.set(device.number, { handle, device });
  }

  async hold(device: LoopDevice): Promise<boolean> {
    if (this.#handleOf(device) !== undefined) return this.keep(device);
    // Of an image that the number served before: LOOP_CHANGE_FD, or its descriptor would have kept it.
    await this.#close(device.number);
    const handle = await openAttached(device);
    if (handle === undefined) return false;
    let isAttached = false;
    try {
      isAttached = await clearAutoclear(handle, device);
    } finally {
      if (!isAttached) await closeHandle(handle, device.path);
    }
    if (isAttached) this.add(device, handle);
    return isAttached;
  }

  async keep(device: LoopDevice): Promise<boolean> {
    const now = this.#scan.present(device);
    if (now !== undefined && !now.autoclear) return true;
    const held = this.#handleOf(device);
    if (held !== undefined) return clearAutoclear(held, device);
    const handle = await openAttached(device);
    if (handle === undefined) return false;
    try {
      return await clearAutoclear(handle, device);
    } finally {
      await closeHandle(handle, device.path);
    }
  }

  /** Whether there was one to close. */
  async release(device: LoopDevice): Promise<boolean> {
    // The number may be another image's by now, whose descriptor must stay.
    if (this.#handleOf(device) === undefined) return false;
    await this.#close(device.number);
    return true;
  }

  async writeBack(device: LoopDevice): Promise<void> {
    const flush = async ({ fd }: FileHandle): Promise<void> => {
      await ioctl(fd, 'BLKFLSBUF', 0, { subject: device.path, boundMs: syncBoundMs });
    };
    const held = this.#handleOf(device);
    if (held === undefined) await withOpen(device.path, openFlags.read, flush);
    else await flush(held);
  }

  #handleOf(device: LoopDevice): FileHandle | undefined {
    const held = this.#held.get(device.number);
    return held !== undefined && isSame(held.device.backing, device.backing)
      ? held.handle
      : undefined;
  }

  async #close(number: number): Promise<void> {
    const held = this.#held.get(number);
    if (held === undefined) return;
    this.#held.delete(number);
    await closeHandle(held.handle, held.device.path);
  }
}

async function openAttached({ path }: LoopDevice): Promise<FileHandle | undefined> {
  try {
    return await openHandle(path, openFlags.read);
  } catch (error) {
    if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}
