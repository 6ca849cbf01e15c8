import { hasErrno } from '../errors.ts';
import type { Mount } from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import { openControl } from './device.ts';
import type { LoopScan } from './scan.ts';

/** Which number a new loop device gets. */

/** How long a number is not used again whose node was given away, and how many such numbers there are at most. */
const avoidMs = 10 * 60_000;
const maxAvoided = 32;

/**
 * The numbers of loop devices whose node is bound somewhere in our namespace. A bind shows whatever has the number now, also
 * when the node itself was removed meanwhile (`//deleted`), so a device that gets such a number shows its bytes there.
 */
export function boundNumbers(mounts: readonly Mount[]): ReadonlySet<number> {
  return new Set(
    mounts.flatMap(({ root, fsType }) => {
      if (fsType !== 'devtmpfs' && fsType !== 'tmpfs') return [];
      const number = /(?:^|\/)loop(\d+)(?:\/\/deleted)?$/.exec(root)?.[1];
      return number === undefined ? [] : [Number(number)];
    }),
  );
}

export class LoopNumbers {
  readonly #scan: LoopScan;
  /** Numbers that an attach of this process is trying: GET_FREE gives several callers the same one. */
  readonly #claimed = new Set<number>();
  /** When they were given back, the longest ago first. */
  readonly #avoided = new Map<number, number>();

  constructor(scan: LoopScan) {
    this.#scan = scan;
  }

  /** A number that is free most likely, and shows nobody else's node. The caller gives it back with `unclaim`. */
  async claim(bound: ReadonlySet<number>): Promise<number> {
    const number = await this.#choose(bound);
    this.#claimed.add(number);
    return number;
  }

  unclaim(number: number): void {
    this.#claimed.delete(number);
  }

  /**
   * The number served a device whose node was given away: a container that outlives its volume has a node of its own with that
   * number, in which it would see the next image. Other numbers are preferred for a while; a few, so that the machine does not
   * get ever more devices.
   */
  avoid(number: number): void {
    this.#avoided.delete(number);
    this.#avoided.set(number, performance.now());
    for (const [oldest] of this.#avoided) {
      if (this.#avoided.size <= maxAvoided) break;
      this.#avoided.delete(oldest);
    }
  }

  async #choose(bound: ReadonlySet<number>): Promise<number> {
    const subject = 'a free loop device';
    const control = await openControl();
    const isUsable = (number: number): boolean => !this.#claimed.has(number) && !bound.has(number);
    const isPreferred = (number: number): boolean => isUsable(number) && !this.#isAvoided(number);
    const first = await ioctl(control, 'LOOP_CTL_GET_FREE', 0, { subject });
    if (isPreferred(first)) return first;
    const idle = this.#scan.idleNumbers();
    const rested = idle.find(isPreferred);
    if (rested !== undefined) return rested;
    try {
      // A number that was removed may be bound still; it is there afterwards, so the next one is another.
      for (;;) {
        const added = await ioctl(control, 'LOOP_CTL_ADD', -1, { subject });
        if (isUsable(added)) return added;
      }
    } catch (error) {
      const last = [first, ...idle].find(isUsable);
      if (last === undefined || !hasErrno(error, 'ENOSPC', 'EINVAL', 'ENODEV', 'ENOMEM'))
        throw error;
      return last;
    }
  }

  #isAvoided(number: number): boolean {
    const since = this.#avoided.get(number);
    if (since === undefined) return false;
    if (performance.now() - since < avoidMs) return true;
    this.#avoided.delete(number);
    return false;
  }
}
