import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { closeHandle, fsync, openFlags, withOpen } from './descriptor.ts';
import { hasErrno, KernelError } from './errors.ts';
import type { AttachOptions, FileIdentity, LoopDevice, LoopDevices } from './host.ts';
import { ioctl } from './kernel.ts';
import {
  checkSame,
  clear,
  configure,
  detachBoundMs,
  hasStickySettings,
  openControl,
  replaceDevice,
} from './loop-device.ts';
import { incarnationOf, isSame, LoopScan, waitUntilGone } from './loop-scan.ts';

/** Tries of attach when other processes take the numbers; from the ninth on with pauses. */
const attachTries = 64;
/** How long a detach waits for a device that is open somewhere, but neither mounted nor claimed. */
const passingBoundMs = 2_500;

/** Loop devices by kernel calls. */
export function makeLoopDevices(): LoopDevices {
  return new KernelLoopDevices();
}

class KernelLoopDevices implements LoopDevices {
  readonly #scan = new LoopScan();
  /** Numbers that an attach of this process is trying: GET_FREE gives several callers the same one. */
  readonly #claimed = new Set<number>();
  /** Descriptors that keep autoclear devices attached until they are mounted. */
  readonly #held = new Map<number, { readonly handle: FileHandle; readonly device: LoopDevice }>();

  list(): Promise<readonly LoopDevice[]> {
    return this.#scan.list();
  }

  backingPath({ number }: LoopDevice): Promise<string | undefined> {
    return this.#scan.backingPath(number);
  }

  findByImage(image: FileIdentity): Promise<readonly LoopDevice[]> {
    return this.#scan.findByImage(image);
  }

  attach(imagePath: string, options: AttachOptions): Promise<LoopDevice> {
    return withOpen(
      imagePath,
      options.readOnly ? openFlags.read : openFlags.readWrite,
      async (image) => {
        for (let attempt = 1; attempt <= attachTries; attempt += 1) {
          const number = await this.#claimFree();
          try {
            const configured = await configure(number, image.fd, options);
            if (configured !== undefined) {
              const { device, held, incarnation } = configured;
              this.#scan.remember(device, incarnation);
              if (held !== undefined) this.#held.set(number, { handle: held, device });
              return device;
            }
          } finally {
            this.#claimed.delete(number);
          }
          if (attempt >= 8) await delay(Math.random() * 20);
        }
        throw new KernelError('LOOP_CONFIGURE', 'EBUSY', imagePath);
      },
    );
  }

  async release(device: LoopDevice): Promise<void> {
    const held = this.#held.get(device.number);
    // The number may be another image's by now, whose descriptor must stay.
    if (held === undefined || !isSame(held.device.backing, device.backing)) return;
    this.#held.delete(device.number);
    await closeHandle(held.handle, device.path);
  }

  refreshSize(device: LoopDevice): Promise<void> {
    return withOpen(device.path, openFlags.read, async (handle) => {
      await checkSame(handle, device);
      await ioctl(handle.fd, 'LOOP_SET_CAPACITY', 0, { subject: device.path });
    });
  }

  async detach(device: LoopDevice): Promise<'detached' | 'in-use'> {
    const { number } = device;
    await this.release(device);
    const incarnation = incarnationOf(number);
    // Settings of the queue stick to the number: such a device is replaced by a fresh one.
    const sticky = await hasStickySettings(number);
    if (!(await clear(device, () => this.#scan.isKnown(device)))) return 'detached';
    if (!(await waitUntilGone(number, incarnation, detachBoundMs))) {
      // Claimed by nobody, so only opened in passing by a slow process: that ends by itself.
      if (await this.isInUse(device)) return 'in-use';
      if (!(await waitUntilGone(number, incarnation, passingBoundMs))) return 'in-use';
    }
    if (sticky) await replaceDevice(number);
    return 'detached';
  }

  async isInUse(device: LoopDevice): Promise<boolean> {
    try {
      await withOpen(device.path, openFlags.exclusive, () => Promise.resolve());
      return false;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return false;
      if (!hasErrno(error, 'EBUSY')) throw error;
    }
    return this.#isStill(device);
  }

  sync(device: LoopDevice): Promise<void> {
    return withOpen(device.path, openFlags.read, async (handle) => {
      await checkSame(handle, device);
      await fsync(handle, device.path);
    });
  }

  /** Whether the device is attached to what `device` says, and not to another image by now. */
  async #isStill(device: LoopDevice): Promise<boolean> {
    try {
      await withOpen(device.path, openFlags.read, (handle) => checkSame(handle, device));
      return true;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return false;
      throw error;
    }
  }

  async #claimFree(): Promise<number> {
    const subject = 'a free loop device';
    const control = await openControl();
    let number = await ioctl(control, 'LOOP_CTL_GET_FREE', 0, { subject });
    while (this.#claimed.has(number)) {
      const other = this.#scan.idleNumbers().find((idle) => !this.#claimed.has(idle));
      number = other ?? (await ioctl(control, 'LOOP_CTL_ADD', -1, { subject }));
    }
    this.#claimed.add(number);
    return number;
  }
}
