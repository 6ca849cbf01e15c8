import { setTimeout as delay } from 'node:timers/promises';

/** What `withTimeout` answers when the time has passed first. */
export const timedOut = Symbol('timed out');

/** The result of `work`, or `timedOut` after `timeoutMs` milliseconds; the work goes on then, and nobody hears its failure. */
export async function withTimeout<T>(
  work: Promise<T>,
  timeoutMs: number,
): Promise<T | typeof timedOut> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<typeof timedOut>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, timedOut);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for `work`, and calls `onLate` once when that takes longer than `timeoutMs` milliseconds (more than 1,000). */
export async function callWhenLate(
  work: () => Promise<void>,
  timeoutMs: number,
  onLate: () => void,
): Promise<void> {
  // In two steps: after a pause of the whole process, an answer that has arrived is seen before the second timer expires.
  let timer = setTimeout(() => {
    timer = setTimeout(onLate, 1_000);
  }, timeoutMs - 1_000);
  try {
    await work();
  } finally {
    clearTimeout(timer);
  }
}

/** How attempts are repeated: the last one is made when the time limit passes. */
export interface RepeatOptions {
  readonly timeoutMs: number;
  readonly pauseMs: number;
  /** The pause doubles up to this value; by default it stays the same. */
  readonly maxPauseMs?: number;
  /** Its abort ends the current pause. */
  readonly signal?: AbortSignal;
}

export interface RetryOptions extends RepeatOptions {
  /** Whether an error may go away without the caller doing anything. */
  readonly isTransient: (error: unknown) => boolean;
}

/** Asks `isDone` at once and after each pause, until it answers true; false when it still answers false at the time limit. */
export async function pollUntil(
  isDone: () => boolean | Promise<boolean>,
  options: Omit<RepeatOptions, 'signal'>,
): Promise<boolean> {
  const pause = pausesWithin(options);
  for (;;) {
    if (await isDone()) return true;
    if (!(await pause())) return false;
  }
}

/** Repeats `call` while it fails with a transient error. Throws the last error at the time limit, and the next one after an abort. */
export async function retry<T>(call: () => Promise<T>, options: RetryOptions): Promise<T> {
  const pause = pausesWithin(options);
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!options.isTransient(error) || options.signal?.aborted === true) throw error;
      if (!(await pause())) throw error;
    }
  }
}

/** Pauses until the next attempt and answers true; false, without a pause, once the time limit has passed. */
function pausesWithin(options: RepeatOptions): () => Promise<boolean> {
  const { timeoutMs, maxPauseMs = options.pauseMs, signal } = options;
  let { pauseMs } = options;
  // A monotonic clock: setting the system time must not end or prolong the wait.
  const endMs = performance.now() + timeoutMs;
  return async () => {
    const remainingMs = endMs - performance.now();
    if (remainingMs <= 0) return false;
    const timer = signal === undefined ? {} : { signal };
    await delay(Math.min(pauseMs, remainingMs), undefined, timer).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, maxPauseMs);
    return true;
  };
}

/** Waits for all works, even if one fails. Returns their results, or throws the first failure in their order. */
export async function settleAll<T>(works: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(works);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

/**
 * The results of `work` for the items, in their order; at most `concurrency` calls run at a time. Fails with the first
 * failure, and starts no call after it.
 */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  concurrency: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const waiting = items.entries();
  let hasFailed = false;
  const worker = async (): Promise<void> => {
    for (const [index, item] of waiting) {
      try {
        results[index] = await work(item);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
      if (hasFailed) return;
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  return results;
}

/** Runs the jobs, at most `concurrency` of them at a time. Fails with the first failure, and starts no job after it. */
export async function runConcurrently(
  jobs: readonly (() => Promise<void>)[],
  concurrency: number,
): Promise<void> {
  await mapConcurrently(jobs, concurrency, (job) => job());
}

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
