import { readdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { mapConcurrently, pollUntil } from '../../async.ts';
import { hasErrno, KernelError, StuckError } from '../errors.ts';
import type { FileIdentity, LoopDevice } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';
import { cachedInodeOf } from '../kernel/statx.ts';
import { type Lane, laneWithin } from '../lane.ts';
import { readStatusAt } from './status.ts';

/** How long a list waits for one device. */
const listTimeoutMs = 5_000;
/** Devices queried at once: each has a lane of its own, and other work of this process needs slots too. */
const maxConcurrentReads = 8;

/** The directory of loop device `number` in sysfs, or a file below it. */
export function sysfsPath(number: number, below = ''): string {
  return `/sys/devices/virtual/block/loop${number}/${below}`;
}

/**
 * Which loop devices are attached, and to which images. Each attachment creates the directory `loop` of the device in
 * sysfs anew, with its own inode number: while that number stays the same, so does the image, and the device need not
 * be opened again. Attributes that may change are in sysfs. Names, inode numbers and these attributes are in kernel
 * memory and wait for no disk, so they are read synchronously: some microseconds each.
 */
export class LoopScan {
  readonly #known = new Map<
    number,
    { readonly incarnation: bigint; readonly device: LoopDevice }
  >();

  /** Stores a device that was just attached. */
  remember(device: LoopDevice, incarnation: bigint | undefined): void {
    if (incarnation !== undefined) this.#known.set(device.number, { incarnation, device });
  }

  /**
   * All attached devices by number, except those that do not answer and were never read: the caller must be able to
   * work with the others.
   */
  async list(lane: Lane): Promise<readonly LoopDevice[]> {
    const attached = loopNumbers().filter((number) => incarnationOf(number) !== undefined);
    const devices = await mapConcurrently(attached, maxConcurrentReads, (number) =>
      this.#readIfItAnswers(lane, number),
    );
    return devices.filter((device) => device !== undefined);
  }

  /** The devices attached to this inode, read-write ones first. */
  async findByImage(lane: Lane, image: FileIdentity): Promise<readonly LoopDevice[]> {
    const found: LoopDevice[] = [];
    const unknown: number[] = [];
    const attached = numbersWithSize();
    for (const number of attached) {
      const incarnation = incarnationOf(number);
      if (incarnation === undefined) continue;
      const known = this.#known.get(number);
      if (known?.incarnation !== incarnation) unknown.push(number);
      else if (isSameFile(known.device.backing, image)) {
        const now = presentState(known.device);
        // The device was detached, and perhaps attached again, meanwhile: ask the device itself.
        if (now === undefined || incarnationOf(number) !== incarnation) unknown.push(number);
        else found.push(now);
      }
    }
    for (const number of this.#known.keys()) if (!attached.has(number)) this.#known.delete(number);
    const devices = await mapConcurrently(unknown, maxConcurrentReads, (number) =>
      this.#readOrRuleOut(lane, number, image),
    );
    return [...found, ...devices.filter((device) => device !== undefined)]
      .filter((device) => isSameFile(device.backing, image))
      .sort((one, other) => Number(one.readOnly) - Number(other.readOnly));
  }

  /** Whether the number is still attached as it was when `device` was read, as far as this process knows. */
  isUnchanged(device: LoopDevice): boolean {
    const known = this.#known.get(device.number);
    return (
      known !== undefined &&
      isSameFile(known.device.backing, device.backing) &&
      known.incarnation === incarnationOf(device.number)
    );
  }

  /**
   * The current state of the device, without opening it; undefined when this attachment was never read, or has ended.
   */
  currentState(device: LoopDevice): LoopDevice | undefined {
    if (!this.isUnchanged(device)) return undefined;
    const now = presentState(device);
    return this.isUnchanged(device) ? now : undefined;
  }

  /** The device with this number; undefined when nothing is attached to it. */
  async at(lane: Lane, number: number): Promise<LoopDevice | undefined> {
    return incarnationOf(number) === undefined ? undefined : this.#read(lane, number);
  }

  /** Devices with AUTOCLEAR. For all others only one attribute in memory is read. */
  async listAutoclear(lane: Lane): Promise<readonly LoopDevice[]> {
    const flagged = [...numbersWithSize()].filter(hasAutoclear);
    const devices = await mapConcurrently(flagged, maxConcurrentReads, (number) =>
      this.#readIfItAnswers(lane, number),
    );
    return devices.filter((device) => device !== undefined);
  }

  async backingPath(lane: Lane, number: number): Promise<string | undefined> {
    try {
      return (await readKernelText(lane, sysfsPath(number, 'loop/backing_file'))).trimEnd();
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** Numbers of existing devices without a size, which are probably free, lowest first. */
  idleNumbers(): readonly number[] {
    const inUse = numbersWithSize();
    return loopNumbers().filter((number) => !inUse.has(number));
  }

  async #readIfItAnswers(lane: Lane, number: number): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(lane, number, { timeoutMs: listTimeoutMs });
    } catch (error) {
      if (!isUnresponsive(error)) throw error;
      const known = this.#known.get(number)?.device;
      return known !== undefined && this.isUnchanged(known) ? known : undefined;
    }
  }

  /**
   * Asks the device itself; undefined when it is no longer attached. Each device has a lane of its own, so that one
   * that hangs blocks no other.
   */
  async #read(lane: Lane, number: number, bound = {}): Promise<LoopDevice | undefined> {
    const path = `/dev/loop${number}`;
    const incarnation = incarnationOf(number);
    try {
      const device = await readStatusAt(laneWithin(lane, path), path, bound);
      if (incarnation !== undefined && incarnation === incarnationOf(number)) {
        this.#known.set(number, { incarnation, device });
      }
      return device;
    } catch (error) {
      if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return undefined;
      throw error;
    }
  }

  /**
   * The same, for a device that may not answer. If its path in sysfs leads to another file, or to none, it does not
   * belong to the image, and a broken device of other software must not fail this call.
   */
  async #readOrRuleOut(
    lane: Lane,
    number: number,
    image: FileIdentity,
  ): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(lane, number);
    } catch (error) {
      if (!isUnresponsive(error) || (await this.#mayBe(lane, number, image))) throw error;
      return undefined;
    }
  }

  async #mayBe(lane: Lane, number: number, image: FileIdentity): Promise<boolean> {
    try {
      const path = await this.backingPath(lane, number);
      if (path === undefined) return false;
      const { dev, ino } = await fsCall(lane, 'stat', path, () => stat(path, { bigint: true }));
      return isSameFile({ device: dev, inode: ino }, image);
    } catch (error) {
      // The file does not exist, or its filesystem has failed; the filesystem of the image has just answered, so it is
      // another one.
      if (error instanceof KernelError) return false;
      throw error;
    }
  }
}

/**
 * Whether a device hangs, or the filesystem of its image has failed: LOOP_GET_STATUS64 asks that filesystem for the
 * inode of the image and returns its errno (EIO of an XFS that was shut down, ENOTCONN of a FUSE without its server,
 * ESTALE).
 */
export function isUnresponsive(error: unknown): boolean {
  if (error instanceof StuckError) return true;
  // ENXIO is a valid result: nothing is attached.
  return (
    error instanceof KernelError && error.syscall === 'LOOP_GET_STATUS64' && error.errno !== 'ENXIO'
  );
}

function loopNumbers(): readonly number[] {
  return readdirSync('/sys/block')
    .flatMap((name) => (/^loop\d+$/.test(name) ? [Number(name.slice(4))] : []))
    .sort((a, b) => a - b);
}

/**
 * Numbers of loop devices with a size, which every device attached by us has. One read, however many idle devices
 * exist.
 */
function numbersWithSize(): ReadonlySet<number> {
  const table = readFileSync('/proc/partitions', 'latin1');
  return new Set([...table.matchAll(/ loop(\d+)$/gm)].map(([, number]) => Number(number)));
}

function hasAutoclear(number: number): boolean {
  try {
    return readFileSync(sysfsPath(number, 'loop/autoclear'), 'latin1').startsWith('1');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return false;
    throw error;
  }
}

/** The device with its changeable attributes read again; undefined when it has been detached. */
function presentState(device: LoopDevice): LoopDevice | undefined {
  const read = (file: string): string =>
    readFileSync(sysfsPath(device.number, file), 'latin1').trimEnd();
  try {
    return {
      ...device,
      directIo: read('loop/dio') === '1',
      autoclear: read('loop/autoclear') === '1',
      sizeBytes: BigInt(read('size')) * 512n,
    };
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}

/** Distinguishes this attachment of the device from earlier and later ones; undefined when it is not attached. */
export function incarnationOf(number: number): bigint | undefined {
  return cachedInodeOf(sysfsPath(number, 'loop'));
}

/** Whether both are the same file. */
export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/**
 * Waits until this attachment of the device has ended; false at the time limit. Its number may then serve another image
 * at once.
 */
export async function waitUntilGone(
  number: number,
  incarnation: bigint | undefined,
  timeoutMs: number,
): Promise<boolean> {
  if (incarnation === undefined) return true;
  const isGone = (): boolean => incarnationOf(number) !== incarnation;
  return pollUntil(isGone, { timeoutMs, pauseMs: 1, maxPauseMs: 50 });
}
