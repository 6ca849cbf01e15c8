/** Runs `work` once a slot is free. Calls start in order of arrival. */
export type Semaphore = <T>(work: () => Promise<T>) => Promise<T>;

/** Allows `count` concurrent calls of `work`; others wait in order of arrival. A failed call frees its slot. */
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
      // The slot passes directly to the next waiter, so that a later call cannot take it.
      if (next === undefined) free += 1;
      else next();
    }
  };
}
