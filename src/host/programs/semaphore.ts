/** Runs `work` when one of the slots is free, in the order of the calls. */
export type Semaphore = <T>(work: () => Promise<T>) => Promise<T>;

/** At most `count` works at once; the others wait, first come first served. A failed work gives its slot back. */
export function makeSemaphore(count: number): Semaphore {
  let free = count;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
      });
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // The slot goes from hand to hand: a newcomer cannot slip in between.
      if (next === undefined) free += 1;
      else next();
    }
  };
}
