import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno, KernelError } from '../errors.ts';
import type {
  AttachOptions,
  DeviceLimits,
  FileIdentity,
  IoCounters,
  IoLimits,
  LoopDevice,
  LoopDevices,
} from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import { fsync, openFlags, withOpen } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { readMounts } from '../mount/mountinfo.ts';
import { requireNoProgram } from '../programs/image-lock.ts';
import {
  attachNumber,
  clearFd,
  detachTimeoutMs,
  hasStickySettings,
  replaceDevice,
  requireSameImage,
} from './device-calls.ts';
import { HeldDevices } from './held-devices.ts';
import { noLimits } from './io-limits.ts';
import { boundNumbers, LoopNumbers } from './numbers.ts';
import { incarnationOf, isUnresponsive, LoopScan, waitUntilDetached } from './scan.ts';

/**
 * Maximum number of attempts to attach while other processes take the chosen numbers. From the eighth on, each is
 * followed by a pause.
 */
const maxAttachAttempts = 64;
/** How much longer a detach waits for a device that is open but neither mounted nor claimed. */
const briefOpenTimeoutMs = 2_500;

/** Manages loop devices with kernel calls. `limits` works in the same lane. */
export function makeLoopDevices(lane: Lane, state: LoopState, limits: DeviceLimits): LoopDevices {
  return new KernelLoopDevices(lane, state, limits);
}

/** The loop devices that this process has seen, and those it holds open. All lanes share it. */
export class LoopState {
  readonly scan = new LoopScan();
  readonly numbers = new LoopNumbers(this.scan);
  readonly held = new HeldDevices(this.scan);
}

class KernelLoopDevices implements LoopDevices {
  readonly #lane: Lane;
  readonly #scan: LoopScan;
  readonly #numbers: LoopNumbers;
  readonly #held: HeldDevices;
  readonly #limits: DeviceLimits;

  constructor(lane: Lane, { scan, numbers, held }: LoopState, limits: DeviceLimits) {
    this.#lane = lane;
    this.#limits = limits;
    this.#scan = scan;
    this.#numbers = numbers;
    this.#held = held;
  }

  list(): Promise<readonly LoopDevice[]> {
    return this.#scan.list(this.#lane);
  }

  listWithIo(): Promise<readonly { readonly device: LoopDevice; readonly io: IoCounters }[]> {
    return this.#scan.listWithIo(this.#lane);
  }

  at(number: number): Promise<LoopDevice | undefined> {
    return this.#scan.at(this.#lane, number);
  }

  isAutoclear(device: LoopDevice): boolean {
    return this.#scan.currentState(device)?.autoclear === true;
  }

  listAutoclear(): Promise<readonly LoopDevice[]> {
    return this.#scan.listAutoclear(this.#lane);
  }

  backingPath({ number }: LoopDevice): Promise<string | undefined> {
    return this.#scan.backingPath(this.#lane, number);
  }

  findByImage(image: FileIdentity): Promise<readonly LoopDevice[]> {
    return this.#scan.findByImage(this.#lane, image);
  }

  async attach(imagePath: string, options: AttachOptions): Promise<LoopDevice> {
    await requireNoProgram(this.#lane, imagePath);
    return withOpen(
      this.#lane,
      imagePath,
      options.readOnly ? openFlags.read : openFlags.readWrite,
      async (image) => {
        const bound = boundNumbers(options.mounts ?? (await readMounts(this.#lane)));
        for (let attempt = 1; attempt <= maxAttachAttempts; attempt += 1) {
          const number = await this.#numbers.claim(this.#lane, bound);
          try {
            const attached = await attachNumber(this.#lane, number, image.fd, options);
            if (attached !== undefined) {
              const { device, held, incarnation } = attached;
              this.#scan.remember(device, incarnation);
              if (held !== undefined) this.#held.add(device, held);
              await this.#removeFormerLimits(device);
              return device;
            }
          } finally {
            this.#numbers.unclaim(number);
          }
          if (attempt >= 8) await delay(Math.random() * 20);
        }
        throw new KernelError('LOOP_CONFIGURE', 'EBUSY', imagePath);
      },
    );
  }

  hold(device: LoopDevice): Promise<boolean> {
    return this.#held.hold(this.#lane, device);
  }

  clearAutoclear(device: LoopDevice): Promise<boolean> {
    return this.#held.clearAutoclear(this.#lane, device);
  }

  async release(device: LoopDevice): Promise<void> {
    await this.#held.release(this.#lane, device);
  }

  writeBack(device: LoopDevice): Promise<void> {
    return this.#held.writeBack(this.#lane, device);
  }

  refreshSize(device: LoopDevice): Promise<void> {
    return withOpen(this.#lane, device.path, openFlags.read, async (handle) => {
      await requireSameImage(this.#lane, handle, device);
      await ioctl(this.#lane, handle.fd, 'LOOP_SET_CAPACITY', 0, { subject: device.path });
    });
  }

  async detach(device: LoopDevice, { later = false } = {}): Promise<'detached' | 'in-use'> {
    const limits = await this.#removeLimits(device);
    let outcome: 'detached' | 'in-use' | undefined;
    try {
      outcome = await this.#detachUnlimited(device, later);
      return outcome;
    } finally {
      if (outcome !== 'detached' && limits !== undefined) await this.#putBack(device, limits);
    }
  }

  async #detachUnlimited(device: LoopDevice, later: boolean): Promise<'detached' | 'in-use'> {
    const { number } = device;
    const wasHeld = await this.#held.release(this.#lane, device);
    const incarnation = incarnationOf(number);
    // Queue settings outlive the attachment, so a device with changed settings is replaced by a fresh one.
    const sticky = await hasStickySettings(this.#lane, number);
    if (
      (await clearFd(this.#lane, device, () => this.#scan.isUnchanged(device))) &&
      !(await this.#detachesInTime(device, incarnation)) &&
      (later || (await this.#cancelDetach(device)))
    ) {
      return 'in-use';
    }
    if (wasHeld) this.#numbers.avoid(number);
    if (sticky) await replaceDevice(this.#lane, number);
    return 'detached';
  }

  /** Removes the limits that a former device of this number has left; if that fails, the device is detached again. */
  async #removeFormerLimits(device: LoopDevice): Promise<void> {
    try {
      const { majorMinor } = device;
      if ((await this.#limits.list()).has(majorMinor)) await this.#limits.set(majorMinor, noLimits);
    } catch (error) {
      await this.detach(device).catch(() => undefined);
      throw error;
    }
  }

  /** Removes the limits of an attached device and returns them. A failure is no reason to keep the device: attach removes them too. */
  async #removeLimits(device: LoopDevice): Promise<IoLimits | undefined> {
    try {
      const { majorMinor } = device;
      const limits = (await this.#limits.list()).get(majorMinor);
      // The number may belong to another image by now.
      if (limits === undefined || !this.#scan.isUnchanged(device)) return undefined;
      await this.#limits.set(majorMinor, noLimits);
      return limits;
    } catch {
      return undefined;
    }
  }

  /** Puts limits back for a device that is still attached. A failure must not hide the result of the detach; the periodic check repeats it. */
  async #putBack(device: LoopDevice, limits: IoLimits): Promise<void> {
    // The number may have been detached, and belong to another image by now.
    if (!this.#scan.isUnchanged(device)) return;
    await this.#limits.set(device.majorMinor, limits).catch(() => undefined);
  }

  /** Cancels the detach request. Returns false if the kernel has already carried it out. */
  async #cancelDetach(device: LoopDevice): Promise<boolean> {
    try {
      return await this.clearAutoclear(device);
    } catch (error) {
      // The image does not answer, so the device is still in use.
      if (isUnresponsive(error)) return true;
      throw error;
    }
  }

  async #detachesInTime(device: LoopDevice, incarnation: bigint | undefined): Promise<boolean> {
    const { number } = device;
    if (await waitUntilDetached(number, incarnation, detachTimeoutMs)) return true;
    // No exclusive user: a slow process has it open only briefly.
    if (await this.isInUse(device)) return false;
    return waitUntilDetached(number, incarnation, briefOpenTimeoutMs);
  }

  async isInUse(device: LoopDevice): Promise<boolean> {
    try {
      await withOpen(this.#lane, device.path, openFlags.exclusive, () => Promise.resolve());
      return false;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return false;
      if (!hasErrno(error, 'EBUSY')) throw error;
    }
    return this.#isStillAttached(device);
  }

  sync(device: LoopDevice): Promise<void> {
    return withOpen(this.#lane, device.path, openFlags.read, async (handle) => {
      await requireSameImage(this.#lane, handle, device);
      await fsync(this.#lane, handle, device.path);
    });
  }

  /** Whether the device is still attached to the image of `device`. */
  async #isStillAttached(device: LoopDevice): Promise<boolean> {
    try {
      await withOpen(this.#lane, device.path, openFlags.read, (handle) =>
        requireSameImage(this.#lane, handle, device),
      );
      return true;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENXIO', 'ENODEV')) return false;
      throw error;
    }
  }
}
