import { hasErrno } from '../errors.ts';
import type { Mount } from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import type { Lane } from '../lane.ts';
import { openControl } from './device.ts';
import type { LoopScan } from './scan.ts';

/** Chooses the number of a new loop device. */

/** How long numbers whose node was given to another process are avoided, and the maximum of such numbers. */
const avoidMs = 10 * 60_000;
const maxAvoided = 32;

/**
 * Numbers of loop devices whose node is bound somewhere in our namespace. A bind of the node shows whichever image has
 * the number, even if the node itself was removed (`//deleted`), so a new device with that number would expose its
 * bytes there.
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
  /** Numbers that an attach of this process is trying: LOOP_CTL_GET_FREE may return one number to several callers. */
  readonly #claimed = new Set<number>();
  /** Avoided numbers with the time of their detach, oldest first. */
  readonly #avoided = new Map<number, number>();

  constructor(scan: LoopScan) {
    this.#scan = scan;
  }

  /** A number that is probably free and whose node is not bound anywhere. The caller returns it with `unclaim`. */
  async claim(lane: Lane, bound: ReadonlySet<number>): Promise<number> {
    const number = await this.#choose(lane, bound);
    this.#claimed.add(number);
    return number;
  }

  unclaim(number: number): void {
    this.#claimed.delete(number);
  }

  /**
   * Avoids this number for a while: the node of its device was given to a container, which may outlive its volume and
   * would see the next image in it. Only a few numbers are avoided, so that the number of devices stays limited.
   */
  avoid(number: number): void {
    this.#avoided.delete(number);
    this.#avoided.set(number, performance.now());
    for (const [oldest] of this.#avoided) {
      if (this.#avoided.size <= maxAvoided) break;
      this.#avoided.delete(oldest);
    }
  }

  async #choose(lane: Lane, bound: ReadonlySet<number>): Promise<number> {
    const subject = 'a free loop device';
    const control = await openControl(lane);
    const isUsable = (number: number): boolean => !this.#claimed.has(number) && !bound.has(number);
    const isPreferred = (number: number): boolean => isUsable(number) && !this.#isAvoided(number);
    const first = await ioctl(lane, control, 'LOOP_CTL_GET_FREE', 0, { subject });
    if (isPreferred(first)) return first;
    const idle = this.#scan.idleNumbers();
    const preferred = idle.find(isPreferred);
    if (preferred !== undefined) return preferred;
    try {
      // A number that was removed may still be bound. Adding it uses it up, so the next one is different.
      for (;;) {
        const added = await ioctl(lane, control, 'LOOP_CTL_ADD', -1, { subject });
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
