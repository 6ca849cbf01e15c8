import { closeSync, fstatSync, openSync } from 'node:fs';
import { KernelError } from '../../src/host/errors.ts';
import type { FileIdentity, LoopDevice, Mount } from '../../src/host/host.ts';

/** What the fake knows of the kernel: tables in memory, which outlive a driver as the kernel's do. */

/** A filesystem that is in use on a device: one, however often it is mounted. */
export interface LiveFilesystem {
  frozen: boolean;
  readonly fsType: string;
  readonly readOnly: boolean;
  superOptions: readonly string[];
}

export interface FakeDevice {
  readonly number: number;
  /** An open descriptor of the image, which follows it through renames as the kernel's does. */
  readonly imageFd: number;
  readonly identity: FileIdentity;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly discard: boolean;
  readonly sectorSize: number;
  readonly label: string;
  sizeBytes: bigint;
  autoclear: boolean;
  /** Held open by the driver: with `autoclear`, or by `hold`. */
  held: boolean;
  heldElsewhere: boolean;
  /** Descriptors that others have open on its node, which do not claim it. */
  openers: number;
  live: LiveFilesystem | undefined;
}

export interface FakeMount extends Omit<Mount, 'superOptions'> {
  readonly device: number | undefined;
  /** Files that somebody has open below it. */
  openFiles: number;
}

export class FakeKernel {
  readonly devices = new Map<number, FakeDevice>();
  readonly mounts: FakeMount[] = [];
  #nextMountId = 100;

  nextMountId(): number {
    this.#nextMountId += 1;
    return this.#nextMountId;
  }

  attach(
    imagePath: string,
    options: Omit<
      FakeDevice,
      'number' | 'imageFd' | 'identity' | 'sizeBytes' | 'heldElsewhere' | 'openers' | 'live'
    >,
    isUsable: (number: number) => boolean = () => true,
  ): FakeDevice {
    const imageFd = openSync(imagePath, options.readOnly ? 'r' : 'r+');
    let number = 0;
    while (this.devices.has(number) || !isUsable(number)) number += 1;
    const device: FakeDevice = {
      ...options,
      number,
      imageFd,
      identity: identityOf(imageFd),
      sizeBytes: sizeOf(imageFd),
      heldElsewhere: false,
      openers: 0,
      live: undefined,
    };
    this.devices.set(number, device);
    return device;
  }

  detach(device: FakeDevice): void {
    this.devices.delete(device.number);
    closeSync(device.imageFd);
  }

  /** The attached device that `device` speaks of; undefined when its number is free, or another image's by now. */
  find(device: LoopDevice): FakeDevice | undefined {
    const found = this.devices.get(device.number);
    return found !== undefined && isSame(found.identity, device.backing) ? found : undefined;
  }

  get(device: LoopDevice, call: string): FakeDevice {
    const found = this.find(device);
    if (found === undefined) throw new KernelError(call, 'ENXIO', device.path);
    return found;
  }

  mountsOf(device: FakeDevice): readonly FakeMount[] {
    return this.mounts.filter((mount) => mount.device === device.number);
  }

  isInUse(device: FakeDevice): boolean {
    return device.heldElsewhere || device.live !== undefined;
  }

  /** After a close or an unmount: a device that only waited for it goes. */
  settle(device: FakeDevice): void {
    if (
      this.mountsOf(device).length === 0 &&
      !device.heldElsewhere &&
      device.live?.frozen !== true
    ) {
      device.live = undefined;
    }
    const isOpen = device.held || device.openers > 0 || this.isInUse(device);
    if (device.autoclear && !isOpen && this.devices.get(device.number) === device) {
      this.detach(device);
    }
  }

  /** LOOP_CLR_FD, by whomever: the device goes with its last opener, which may be this call. */
  clear(device: FakeDevice): void {
    device.autoclear = true;
    this.settle(device);
  }

  /** Somebody opens the node, until the answer is called. */
  open(device: FakeDevice): () => void {
    device.openers += 1;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      device.openers -= 1;
      this.settle(device);
    };
  }

  /**
   * The device whose bytes a path shows: that of the filesystem mounted there, or whichever has the number of the node bound
   * there now; undefined where there is none.
   */
  deviceShownAt(target: string): FakeDevice | undefined {
    const mount = this.mounts.findLast((one) => one.target === target);
    const number = mount?.device ?? /^\/loop(\d+)$/.exec(mount?.root ?? '')?.[1];
    return number === undefined ? undefined : this.devices.get(Number(number));
  }
}

export function sizeOf(imageFd: number): bigint {
  const { size } = fstatSync(imageFd, { bigint: true });
  return size - (size % 512n);
}

function identityOf(imageFd: number): FileIdentity {
  const { dev, ino } = fstatSync(imageFd, { bigint: true });
  return { device: dev, inode: ino };
}

export function isSame(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

export function describe(device: FakeDevice): LoopDevice {
  const { number, identity, label, readOnly, directIo, autoclear, sectorSize, sizeBytes } = device;
  return {
    number,
    path: `/dev/loop${number}`,
    majorMinor: `7:${number}`,
    backing: identity,
    label,
    readOnly,
    directIo,
    autoclear,
    sectorSize,
    sizeBytes,
  };
}
