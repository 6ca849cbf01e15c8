import { hasErrno } from '../errors.ts';
import type { Mount } from '../host.ts';
import { ioctl } from '../kernel/calls.ts';
import type { Lane } from '../lane.ts';
import { nodeBindOf } from '../mount/loop-mounts.ts';
import { controlPath, openControl } from './device-calls.ts';
import type { LoopScan } from './scan.ts';

/** Chooses the number of the next loop device to attach. */

/**
 * How long the number of a device whose node was given to another process is avoided, and how many are avoided at most.
 */
const avoidMs = 10 * 60_000;
const maxAvoided = 32;

/**
 * Numbers of loop devices whose node is bind-mounted in this namespace. Such a bind exposes whatever image is attached
 * to the number, even if the node itself was removed (`//deleted`), so it would expose the image of a new device with
 * that number.
 */
export function boundNumbers(mounts: readonly Mount[]): ReadonlySet<number> {
  return new Set(
    mounts.flatMap((mount) => {
      const bind = nodeBindOf(mount);
      return bind === undefined ? [] : [bind.number];
    }),
  );
}

export class LoopNumbers {
  readonly #scan: LoopScan;
  /** Numbers that attaches of this process are trying: LOOP_CTL_GET_FREE may return one number to several callers. */
  readonly #claimed = new Set<number>();
  /** Avoided numbers and the time at which each was detached, oldest first. */
  readonly #avoided = new Map<number, number>();

  constructor(scan: LoopScan) {
    this.#scan = scan;
  }

  /**
   * Returns a number that is probably free and whose node is not bind-mounted anywhere. The caller must call `unclaim`.
   */
  async claim(lane: Lane, bound: ReadonlySet<number>): Promise<number> {
    const number = await this.#choose(lane, bound);
    this.#claimed.add(number);
    return number;
  }

  unclaim(number: number): void {
    this.#claimed.delete(number);
  }

  /**
   * Avoids this number for `avoidMs`. The node of its device was given to a container, which may outlive its volume and
   * would see the next image attached to the number. Only `maxAvoided` numbers are avoided, so that the number of
   * devices stays limited.
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
    const subject = controlPath;
    const control = await openControl(lane);
    const isUsable = (number: number): boolean => !this.#claimed.has(number) && !bound.has(number);
    const isPreferred = (number: number): boolean => isUsable(number) && !this.#isAvoided(number);
    const first = await ioctl(lane, control, 'LOOP_CTL_GET_FREE', 0, { subject });
    if (isPreferred(first)) return first;
    const idle = this.#scan.idleNumbers();
    const preferred = idle.find(isPreferred);
    if (preferred !== undefined) return preferred;
    try {
      // The node of a removed device may still be bind-mounted. Adding its number uses it up, so that the kernel
      // returns another one next.
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
