import { readdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno, KernelError, StuckError } from '../errors.ts';
import type { FileIdentity, LoopDevice } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';
import { ownedBy } from '../kernel/gate.ts';
import { cachedInodeOf } from '../kernel/statx.ts';
import { readStatusAt } from './status.ts';

/** How long one device may take to answer before a list goes on without it. */
const listBoundMs = 5_000;

/** The folder of loop device `number` in sysfs, or a file below it. */
export function sysfsPath(number: number, below = ''): string {
  return `/sys/devices/virtual/block/loop${number}/${below}`;
}

/**
 * Which loop devices are attached, and to what. The folder `loop` in a device's sysfs is made anew at each attachment,
 * with an inode number of its own: while that number stays, so does the image, and a device need not be opened again; what
 * else may change is in sysfs. Names, inode numbers and these attributes are in the kernel's memory and wait for no disk, so
 * they are read at once: some microseconds each.
 */
export class LoopScan {
  readonly #known = new Map<
    number,
    { readonly incarnation: bigint; readonly device: LoopDevice }
  >();

  /** Takes over what an attach has just been told by the device itself. */
  remember(device: LoopDevice, incarnation: bigint | undefined): void {
    if (incarnation !== undefined) this.#known.set(device.number, { incarnation, device });
  }

  /**
   * Every attached device, by number, but those that do not answer and were never read: whoever lists has the others to care
   * for.
   */
  async list(): Promise<readonly LoopDevice[]> {
    const attached = loopNumbers().filter((number) => incarnationOf(number) !== undefined);
    const devices = await inParallel(attached, (number) => this.#readIfItAnswers(number));
    return devices.filter((device) => device !== undefined);
  }

  /** The devices that sit on that inode, read-write ones first. */
  async findByImage(image: FileIdentity): Promise<readonly LoopDevice[]> {
    const found: LoopDevice[] = [];
    const unknown: number[] = [];
    const attached = numbersWithSize();
    for (const number of attached) {
      const incarnation = incarnationOf(number);
      if (incarnation === undefined) continue;
      const known = this.#known.get(number);
      if (known?.incarnation !== incarnation) unknown.push(number);
      else if (isSame(known.device.backing, image)) {
        const now = presentState(known.device);
        // Detached, and perhaps attached again, while it was looked at: the device itself is asked.
        if (now === undefined || incarnationOf(number) !== incarnation) unknown.push(number);
        else found.push(now);
      }
    }
    for (const number of this.#known.keys()) if (!attached.has(number)) this.#known.delete(number);
    const devices = await inParallel(unknown, (number) => this.#readOrRuleOut(number, image));
    return [...found, ...devices.filter((device) => device !== undefined)]
      .filter((device) => isSame(device.backing, image))
      .sort((one, other) => Number(one.readOnly) - Number(other.readOnly));
  }

  /** Whether the number is still attached as it was when `device` was read, as far as this process knows. */
  isKnown(device: LoopDevice): boolean {
    const known = this.#known.get(device.number);
    return (
      known !== undefined &&
      isSame(known.device.backing, device.backing) &&
      known.incarnation === incarnationOf(device.number)
    );
  }

  /** The device as it is now, without opening it; undefined when this attachment of it was never read, or has ended. */
  present(device: LoopDevice): LoopDevice | undefined {
    if (!this.isKnown(device)) return undefined;
    const now = presentState(device);
    return this.isKnown(device) ? now : undefined;
  }

  /** The device of that number; undefined when nothing is attached to it. */
  async at(number: number): Promise<LoopDevice | undefined> {
    return incarnationOf(number) === undefined ? undefined : this.#read(number);
  }

  /** Those that go at their last close. Of the others only one attribute in memory is read. */
  async listAutoclear(): Promise<readonly LoopDevice[]> {
    const flagged = [...numbersWithSize()].filter(hasAutoclear);
    const devices = await inParallel(flagged, (number) => this.#readIfItAnswers(number));
    return devices.filter((device) => device !== undefined);
  }

  async backingPath(number: number): Promise<string | undefined> {
    try {
      return (await readKernelText(sysfsPath(number, 'loop/backing_file'))).trimEnd();
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** Numbers of devices that exist and have no size, so that they are most likely free, lowest first. */
  idleNumbers(): readonly number[] {
    const inUse = numbersWithSize();
    return loopNumbers().filter((number) => !inUse.has(number));
  }

  async #readIfItAnswers(number: number): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(number, { boundMs: listBoundMs });
    } catch (error) {
      if (!doesNotAnswer(error)) throw error;
      const known = this.#known.get(number)?.device;
      return known !== undefined && this.isKnown(known) ? known : undefined;
    }
  }

  /** Asks the device itself; undefined when it is no longer attached. A device that hangs makes only itself stuck. */
  async #read(number: number, bound = {}): Promise<LoopDevice | undefined> {
    const path = `/dev/loop${number}`;
    const incarnation = incarnationOf(number);
    try {
      const device = await ownedBy(path, () => readStatusAt(path, bound));
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
   * The same for one that may not answer: when the path in sysfs leads to another file, or to none, it is not the image's, and
   * somebody else's broken device is no reason to stop here.
   */
  async #readOrRuleOut(number: number, image: FileIdentity): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(number);
    } catch (error) {
      if (!doesNotAnswer(error) || (await this.#mayBe(number, image))) throw error;
      return undefined;
    }
  }

  async #mayBe(number: number, image: FileIdentity): Promise<boolean> {
    try {
      const path = (await readKernelText(sysfsPath(number, 'loop/backing_file'))).trimEnd();
      const { dev, ino } = await fsCall('stat', path, () => stat(path, { bigint: true }));
      return isSame({ device: dev, inode: ino }, image);
    } catch (error) {
      // None there, or one on a filesystem that has failed: that of the image has just answered.
      if (error instanceof KernelError) return false;
      throw error;
    }
  }
}

/**
 * Whether a device hangs, or the filesystem below its image has failed: LOOP_GET_STATUS64 asks that for the image's inode, and
 * gives its errno (EIO of an XFS that was shut down, ENOTCONN of a FUSE without its server, ESTALE).
 */
export function doesNotAnswer(error: unknown): boolean {
  if (error instanceof StuckError) return true;
  // ENXIO is an answer: nothing is attached.
  return (
    error instanceof KernelError && error.syscall === 'LOOP_GET_STATUS64' && error.errno !== 'ENXIO'
  );
}

/** Each device is an owner of its own, so several may be asked at once; the others of this process keep slots too. */
const parallelReads = 8;

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += parallelReads) {
    results.push(...(await Promise.all(items.slice(at, at + parallelReads).map(work))));
  }
  return results;
}

function loopNumbers(): readonly number[] {
  return readdirSync('/sys/block')
    .flatMap((name) => (/^loop\d+$/.test(name) ? [Number(name.slice(4))] : []))
    .sort((a, b) => a - b);
}

/**
 * The numbers of the loop devices that have a size: those that are attached to anything we could have attached, in one read
 * however many idle ones there are.
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

/** The device with what can change while it stays attached; undefined when it has been detached. */
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

/** Tells this attachment of the device from its earlier and later ones; undefined when it is not attached. */
export function incarnationOf(number: number): bigint | undefined {
  return cachedInodeOf(sysfsPath(number, 'loop'));
}

/** Whether both are the same file. */
export function isSame(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/** Whether that attachment of the device ends within the bound: its number may serve another image at once. */
export async function waitUntilGone(
  number: number,
  incarnation: bigint | undefined,
  boundMs: number,
): Promise<boolean> {
  const giveUpAt = performance.now() + boundMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    if (incarnation === undefined || incarnationOf(number) !== incarnation) return true;
    if (performance.now() >= giveUpAt) return false;
    await delay(pauseMs);
  }
}
