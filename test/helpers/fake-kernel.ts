import { closeSync, fstatSync, openSync } from 'node:fs';
import { KernelError } from '../../src/host/errors.ts';
import type { FileIdentity, LoopDevice, Mount } from '../../src/host/host.ts';

/** The state of the fake kernel: tables in memory, which outlive a driver, as in the real one. */

/** The active superblock on a device; one, however often it is mounted. */
export interface LiveFilesystem {
  frozen: boolean;
  readonly fsType: string;
  readonly readOnly: boolean;
  superOptions: readonly string[];
}

export interface FakeDevice {
  readonly number: number;
  /** An open descriptor of the image, which follows it through renames, as in the kernel. */
  readonly imageFd: number;
  readonly identity: FileIdentity;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly discard: boolean;
  readonly sectorSize: number;
  readonly label: string;
  sizeBytes: bigint;
  autoclear: boolean;
  /** Whether the driver has it open: since an attach with `autoclear`, or since `hold`. */
  held: boolean;
  usedElsewhere: boolean;
  /** Number of open descriptors of its node in other processes; they do not claim the device. */
  openers: number;
  live: LiveFilesystem | undefined;
}

export interface FakeMount extends Omit<Mount, 'superOptions'> {
  readonly device: number | undefined;
  /** Files below it that other processes have open. */
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
      'number' | 'imageFd' | 'identity' | 'sizeBytes' | 'usedElsewhere' | 'openers' | 'live'
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
      usedElsewhere: false,
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

  /** The attached device described by `device`; undefined when its number is free or has another image now. */
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
    return device.usedElsewhere || device.live !== undefined;
  }

  /** Call it after a close or an unmount: an autoclear device that nothing uses any more is detached. */
  detachIfUnused(device: FakeDevice): void {
    if (
      this.mountsOf(device).length === 0 &&
      !device.usedElsewhere &&
      device.live?.frozen !== true
    ) {
      device.live = undefined;
    }
    const isOpen = device.held || device.openers > 0 || this.isInUse(device);
    if (device.autoclear && !isOpen && this.devices.get(device.number) === device) {
      this.detach(device);
    }
  }

  /** LOOP_CLR_FD of any process: the device is detached at its last close, which may be the close of this call. */
  clear(device: FakeDevice): void {
    device.autoclear = true;
    this.detachIfUnused(device);
  }

  /** Opens the node as another process, until the returned function is called. */
  open(device: FakeDevice): () => void {
    device.openers += 1;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      device.openers -= 1;
      this.detachIfUnused(device);
    };
  }

  /**
   * The device visible at a path: the device of the filesystem mounted there, or the device that now has the number of
   * the node bound there; undefined if there is none.
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
