import { makeSemaphore } from '../../async.ts';
import type { Lane } from '../lane.ts';

/** Number of long programs that run at once on one disk. */
const slotsPerDisk = 2;

/**
 * Slots for programs that may run for hours, as a copy does. They neither delay other programs (run.ts) nor those of another disk,
 * and a caller takes one before it attaches or mounts anything for its program.
 */
export class LongProgramSlots {
  readonly #ofDisk = new Map<string | undefined, ReturnType<typeof makeSemaphore>>();

  /**
   * Runs `work` once the disk of the lane has a free slot, in order of arrival. Rejects with the reason of the signal if it is
   * aborted before. `work` passes `freeSlot` to its program, which calls it if it hangs.
   */
  take<T>(
    { disk }: Lane,
    work: (freeSlot: () => void) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const slots = this.#ofDisk.get(disk) ?? makeSemaphore(slotsPerDisk);
    this.#ofDisk.set(disk, slots);
    return slots(work, signal);
  }
}
