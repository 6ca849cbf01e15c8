import { readdirSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fsCall, openFlags, withOpen } from './descriptor.ts';
import { hasErrno, StuckError } from './errors.ts';
import { ownedBy } from './gate.ts';
import type { FileIdentity, LoopDevice } from './host.ts';
import { readKernelText } from './kernel.ts';
import { readStatus } from './loop-status.ts';

/** How long one device may take to answer before a list goes on without it. */
const listBoundMs = 5_000;

/** The folder of loop device `number` in sysfs, or a file below it. */
export function sysfsPath(number: number, below = ''): string {
  return `/sys/devices/virtual/block/loop${number}/${below}`;
}

/**
 * Which loop devices are attached, and to what. The folder `loop` in a device's sysfs is made anew at each attachment,
 * with an inode number of its own: while that number stays, so does the answer of LOOP_GET_STATUS64, and a device need
 * not be opened again. Reading names and inode numbers of sysfs waits for no disk, so that is done at once: about 2 µs a
 * device.
 */
export class LoopScan {
  readonly #known = new Map<
    number,
    { readonly incarnation: bigint; readonly backing: FileIdentity }
  >();

  /** Every attached device, by number, but those that hang: whoever lists has the others to care for. */
  async list(): Promise<readonly LoopDevice[]> {
    const attached = loopNumbers().filter((number) => incarnationOf(number) !== undefined);
    const devices = await inParallel(attached, (number) => this.#readUnlessStuck(number));
    return devices.filter((device) => device !== undefined);
  }

  /** The devices that sit on that inode, read-write ones first. */
  async findByImage(image: FileIdentity): Promise<readonly LoopDevice[]> {
    const candidates: number[] = [];
    const attached = new Set<number>();
    for (const number of loopNumbers()) {
      const incarnation = incarnationOf(number);
      if (incarnation === undefined) continue;
      attached.add(number);
      const known = this.#known.get(number);
      if (known?.incarnation !== incarnation || isSame(known.backing, image))
        candidates.push(number);
    }
    for (const number of this.#known.keys()) if (!attached.has(number)) this.#known.delete(number);
    const devices = await inParallel(candidates, (number) => this.#readOrRuleOut(number, image));
    return devices
      .filter((device) => device !== undefined)
      .filter((device) => isSame(device.backing, image))
      .sort((one, other) => Number(one.readOnly) - Number(other.readOnly));
  }

  async backingPath(number: number): Promise<string | undefined> {
    try {
      return (await readKernelText(sysfsPath(number, 'loop/backing_file'))).trimEnd();
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** Numbers of devices that exist and are not attached, lowest first. */
  idleNumbers(): readonly number[] {
    return loopNumbers().filter((number) => incarnationOf(number) === undefined);
  }

  async #readUnlessStuck(number: number): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(number, { boundMs: listBoundMs });
    } catch (error) {
      if (error instanceof StuckError) return undefined;
      throw error;
    }
  }

  /** Asks the device itself; undefined when it is no longer attached. A device that hangs makes only itself stuck. */
  async #read(number: number, bound = {}): Promise<LoopDevice | undefined> {
    const path = `/dev/loop${number}`;
    const incarnation = incarnationOf(number);
    try {
      const device = await ownedBy(path, () =>
        withOpen(path, openFlags.read, (handle) => readStatus(handle, path, bound)),
      );
      if (incarnation !== undefined && incarnation === incarnationOf(number)) {
        this.#known.set(number, { incarnation, backing: device.backing });
      }
      return device;
    } catch (error) {
      if (hasErrno(error, 'ENXIO', 'ENOENT', 'ENODEV')) return undefined;
      throw error;
    }
  }

  /**
   * The same for one that may hang: when the path in sysfs leads to another file, or to none, it is not the image's, and
   * somebody else's hung device is no reason to stop here.
   */
  async #readOrRuleOut(number: number, image: FileIdentity): Promise<LoopDevice | undefined> {
    try {
      return await this.#read(number);
    } catch (error) {
      if (!(error instanceof StuckError) || (await this.#mayBe(number, image))) throw error;
      return undefined;
    }
  }

  async #mayBe(number: number, image: FileIdentity): Promise<boolean> {
    try {
      const path = (await readKernelText(sysfsPath(number, 'loop/backing_file'))).trimEnd();
      const { dev, ino } = await fsCall('stat', path, () => stat(path, { bigint: true }));
      return isSame({ device: dev, inode: ino }, image);
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
      throw error;
    }
  }
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

/** Tells this attachment of the device from its earlier and later ones; undefined when it is not attached. */
export function incarnationOf(number: number): bigint | undefined {
  return statSync(sysfsPath(number, 'loop'), { bigint: true, throwIfNoEntry: false })?.ino;
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
