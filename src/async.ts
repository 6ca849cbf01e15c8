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

export interface PollOptions {
  readonly timeoutMs: number;
  readonly pauseMs: number;
  /** The pause doubles up to this value; by default it stays the same. */
  readonly maxPauseMs?: number;
}

/** Asks `isDone` at once and after each pause, until it answers true; false when it still answers false after the time limit. */
export async function pollUntil(
  isDone: () => boolean | Promise<boolean>,
  options: PollOptions,
): Promise<boolean> {
  const { timeoutMs, maxPauseMs = options.pauseMs } = options;
  // A monotonic clock: setting the system time must not end or prolong the wait.
  const endMs = performance.now() + timeoutMs;
  for (let { pauseMs } = options; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    if (await isDone()) return true;
    if (performance.now() >= endMs) return false;
    await delay(pauseMs);
  }
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
