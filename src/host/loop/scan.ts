import { readdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { mapConcurrently, pollUntil } from '../../async.ts';
import { hasErrno, KernelError, StuckError } from '../errors.ts';
import type { FileIdentity, IoCounters, LoopDevice } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';
import { cachedInodeOf } from '../kernel/statx.ts';
import { type Lane, laneWithin } from '../lane.ts';
import { ioCountersSince, noIo, parseDiskstats, readIoCounters } from './io-counters.ts';
import { isSameFile, readStatusAt } from './status.ts';

/** Time limit for each device when all are listed. */
const listTimeoutMs = 5_000;
/**
 * Maximum number of devices queried concurrently: each has its own lane, and other work of this process needs slots
 * too.
 */
const maxConcurrentReads = 8;

/** The path of loop device `number`, or of a file below it, in sysfs. */
export function sysfsPath(number: number, below = ''): string {
  return `/sys/devices/virtual/block/loop${number}/${below}`;
}

interface KnownDevice {
  readonly incarnation: bigint;
  readonly device: LoopDevice;
  /** The I/O counters when this attachment was first read: what they counted before belongs to other images. */
  readonly ioBefore: IoCounters;
}

/**
 * Finds out which loop devices are attached to which images. Each attachment creates the directory `loop` of the device
 * in sysfs anew, with its own inode number: while that number stays the same, so does the image, and the device need
 * not be opened again. Attributes that may change are in sysfs. Names, inode numbers and these attributes are in kernel
 * memory and require no disk I/O, so they are read synchronously, in microseconds.
 */
export class LoopScan {
  readonly #known = new Map<number, KnownDevice>();

  /** Records a device that was just attached or queried, with the inode number of its directory `loop`. */
  remember(device: LoopDevice, incarnation: bigint | undefined): void {
    if (incarnation === undefined) return;
    const known = this.#known.get(device.number);
    const ioBefore =
      known?.incarnation === incarnation
        ? known.ioBefore
        : readIoCounters(sysfsPath(device.number, 'stat'));
    if (ioBefore !== undefined) this.#known.set(device.number, { incarnation, device, ioBefore });
  }

  /** See `LoopDevices.listWithIo`. Devices that do not answer and have never been read are left out. */
  async listWithIo(
    lane: Lane,
  ): Promise<readonly { readonly device: LoopDevice; readonly io: IoCounters }[]> {
    const counters = parseDiskstats(await readKernelText(lane, '/proc/diskstats'));
    const unknown: number[] = [];
    const found: { device: LoopDevice; io: IoCounters }[] = [];
    for (const [number, now] of counters) {
      const incarnation = incarnationOf(number);
      if (incarnation === undefined) continue;
      const known = this.#known.get(number);
      if (known?.incarnation !== incarnation) unknown.push(number);
      else found.push({ device: known.device, io: ioCountersSince(known.ioBefore, now) });
    }
    // Their counters begin now, after the table was read.
    const devices = await mapConcurrently(unknown, maxConcurrentReads, (number) =>
      this.#readUnlessHung(lane, number),
    );
    const added = devices.filter((device) => device !== undefined);
    return [...found, ...added.map((device) => ({ device, io: noIo }))];
  }

  /**
   * Returns all attached devices, ordered by number, except those that do not answer and have never been read: a hung
   * device must not make the others unusable.
   */
  async list(lane: Lane): Promise<readonly LoopDevice[]> {
    const attached = loopNumbers().filter((number) => incarnationOf(number) !== undefined);
    const devices = await mapConcurrently(attached, maxConcurrentReads, (number) =>
      this.#readUnlessHung(lane, number),
    );
    return devices.filter((device) => device !== undefined);
  }

  /** Returns the devices attached to this inode, read-write devices first. */
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
        const now = rereadState(known.device);
        // The device was detached during the read, and perhaps attached again: query the device itself.
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

  /**
   * Whether the attachment that `device` describes still exists. Decided from sysfs; false if this process has never
   * read that attachment.
   */
  isUnchanged(device: LoopDevice): boolean {
    const known = this.#known.get(device.number);
    return (
      known !== undefined &&
      isSameFile(known.device.backing, device.backing) &&
      known.incarnation === incarnationOf(device.number)
    );
  }

  /**
   * The current state of the device, determined without opening it; undefined if this attachment was never read or has
   * ended.
   */
  currentState(device: LoopDevice): LoopDevice | undefined {
    if (!this.isUnchanged(device)) return undefined;
    const now = rereadState(device);
    return this.isUnchanged(device) ? now : undefined;
  }

  /** The device with this number; undefined if nothing is attached to it. */
  async at(lane: Lane, number: number): Promise<LoopDevice | undefined> {
    return incarnationOf(number) === undefined ? undefined : this.#read(lane, number);
  }

  /** Devices with AUTOCLEAR. For other devices, only one attribute in kernel memory is read. */
  async listAutoclear(lane: Lane): Promise<readonly LoopDevice[]> {
    const flagged = [...numbersWithSize()].filter(hasAutoclear);
    const devices = await mapConcurrently(flagged, maxConcurrentReads, (number) =>
      this.#readUnlessHung(lane, number),
    );
    return devices.filter((device) => device !== undefined);
  }

  async backingPath(lane: Lane, number: number): Promise<string | undefined> {
    try {
      return (await readKernelText(lane, sysfsPath(number, 'loop/backing_file'))).trimEnd();
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
      throw error;
    }
  }

  /** Numbers of existing devices that have no size and are therefore probably free, in ascending order. */
  idleNumbers(): readonly number[] {
    const inUse = numbersWithSize();
    return loopNumbers().filter((number) => !inUse.has(number));
  }

  async #readUnlessHung(lane: Lane, number: number): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(lane, number, { timeoutMs: listTimeoutMs });
    } catch (error) {
      if (!isUnresponsive(error)) throw error;
      const known = this.#known.get(number)?.device;
      return known !== undefined && this.isUnchanged(known) ? known : undefined;
    }
  }

  /**
   * Queries the device itself; undefined if it is no longer attached. Each device has its own lane, so that a hung
   * device does not block others.
   */
  async #read(lane: Lane, number: number, options = {}): Promise<LoopDevice | undefined> {
    const path = `/dev/loop${number}`;
    const incarnation = incarnationOf(number);
    try {
      const device = await readStatusAt(laneWithin(lane, path), path, options);
      if (incarnation === incarnationOf(number)) this.remember(device, incarnation);
      return device;
    } catch (error) {
      if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return undefined;
      throw error;
    }
  }

  /**
   * Queries a device that may not answer. If it does not answer and its path in sysfs leads to another file, or to
   * none, it does not belong to the image. This then returns undefined, since a broken device of other software must
   * not fail the call.
   */
  async #readOrRuleOut(
    lane: Lane,
    number: number,
    image: FileIdentity,
  ): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(lane, number);
    } catch (error) {
      if (!isUnresponsive(error) || (await this.#isBackedBy(lane, number, image))) throw error;
      return undefined;
    }
  }

  async #isBackedBy(lane: Lane, number: number, image: FileIdentity): Promise<boolean> {
    try {
      const path = await this.backingPath(lane, number);
      if (path === undefined) return false;
      const { dev, ino } = await fsCall(lane, 'stat', path, () => stat(path, { bigint: true }));
      return isSameFile({ device: dev, inode: ino }, image);
    } catch (error) {
      // The file does not exist, or its filesystem has failed. The image's filesystem has just answered, so this is
      // another one.
      if (error instanceof KernelError) return false;
      throw error;
    }
  }
}

/**
 * Whether the error shows that a device hangs or that the filesystem of its image has failed: LOOP_GET_STATUS64 queries
 * that filesystem for the inode of the image and returns its errno (EIO from an XFS that was shut down, ENOTCONN from
 * FUSE without its server, ESTALE).
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
 * Numbers of loop devices that have a size. Every device that the driver attaches has one. Takes a single read, however
 * many idle devices exist.
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

/** Rereads the attributes of the device that can change; undefined if it has been detached. */
function rereadState(device: LoopDevice): LoopDevice | undefined {
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

/**
 * A number that distinguishes this attachment of the device from earlier and later ones; undefined if it is not
 * attached.
 */
export function incarnationOf(number: number): bigint | undefined {
  return cachedInodeOf(sysfsPath(number, 'loop'));
}

/**
 * Waits until this attachment of the device has ended. Returns false at the time limit. Once it has ended, the number
 * may immediately be attached to another image.
 */
export async function waitUntilDetached(
  number: number,
  incarnation: bigint | undefined,
  timeoutMs: number,
): Promise<boolean> {
  if (incarnation === undefined) return true;
  const isDetached = (): boolean => incarnationOf(number) !== incarnation;
  return pollUntil(isDetached, { timeoutMs, pauseMs: 1, maxPauseMs: 50 });
}
