import { setTimeout as delay } from 'node:timers/promises';

/** The result of `withTimeout` if the time limit passes first. */
export const timedOut = Symbol('timed out');

/**
 * Returns the result of `work`, or `timedOut` after `timeoutMs` milliseconds. The work then continues, and if it fails
 * later, the failure is ignored.
 */
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

/**
 * Waits for `work`. Calls `onLate` once if that takes longer than `timeoutMs` milliseconds, which must be more than
 * 1,000.
 */
export async function callWhenLate(
  work: () => Promise<void>,
  timeoutMs: number,
  onLate: () => void,
): Promise<void> {
  // Two timers: after the whole process was suspended, a result that has arrived is handled before the second timer
  // expires.
  let timer = setTimeout(() => {
    timer = setTimeout(onLate, 1_000);
  }, timeoutMs - 1_000);
  try {
    await work();
  } finally {
    clearTimeout(timer);
  }
}

/** How attempts are repeated. The last attempt is made when the time limit passes. */
interface RepeatOptions {
  readonly timeoutMs: number;
  readonly pauseMs: number;
  /** The pause doubles up to this value; by default it stays the same. */
  readonly maxPauseMs?: number;
  /** Aborting it ends the current pause. */
  readonly signal?: AbortSignal;
}

interface RetryOptions extends RepeatOptions {
  /** Whether a later attempt may succeed without any action by the caller. */
  readonly isTransient: (error: unknown) => boolean;
}

/**
 * Calls `isDone` at once and after each pause until it returns true. Returns false if it still returns false at the
 * time limit.
 */
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

/**
 * Repeats `call` while it fails with a transient error. Throws the last error at the time limit. After an abort, it
 * makes one more attempt and throws its error.
 */
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

/**
 * Returns a function that pauses before the next attempt and returns true. After a pause that the time limit has cut
 * short, and once the limit has passed, it returns false without a pause.
 */
function pausesWithin(options: RepeatOptions): () => Promise<boolean> {
  const { timeoutMs, maxPauseMs = options.pauseMs, signal } = options;
  let { pauseMs } = options;
  // A monotonic clock: setting the system time must not end or prolong the wait.
  const endMs = performance.now() + timeoutMs;
  // A timer may expire up to a millisecond early, so the clock alone would allow one attempt more.
  let isLimitReached = false;
  return async () => {
    const remainingMs = endMs - performance.now();
    if (isLimitReached || remainingMs <= 0) return false;
    isLimitReached = pauseMs >= remainingMs;
    const timer = signal === undefined ? {} : { signal };
    const ms = Math.ceil(Math.min(pauseMs, remainingMs));
    await delay(ms, undefined, timer).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, maxPauseMs);
    return true;
  };
}

/** Waits for all promises, even if one rejects. Returns their results, or throws the first failure in their order. */
export async function settleAll<T>(works: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(works);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

/**
 * Calls `work` for every item, with at most `concurrency` calls at a time, and returns the results in the order of the
 * items. After a failure it starts no further call and rejects with the first failure.
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

/**
 * Runs the jobs, at most `concurrency` at a time. After a failure it starts no further job and rejects with the first
 * failure.
 */
export async function runConcurrently(
  jobs: readonly (() => Promise<void>)[],
  concurrency: number,
): Promise<void> {
  await mapConcurrently(jobs, concurrency, (job) => job());
}

/**
 * Runs `work` once a slot is free. Calls start in order of arrival. An abort ends the wait, but not `work`. `work` may free its slot
 * before it ends.
 */
type Semaphore = <T>(
  work: (freeSlot: () => void) => Promise<T>,
  signal?: AbortSignal,
) => Promise<T>;

/** Allows `count` concurrent calls of `work`; others wait in order of arrival. A failed call frees its slot. */
export function makeSemaphore(count: number): Semaphore {
  let free = count;
  const waiting: (() => void)[] = [];
  const wait = (signal: AbortSignal | undefined): Promise<void> =>
    new Promise((resolve, reject) => {
      const start = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        waiting.splice(waiting.indexOf(start), 1);
        reject(signal?.reason as Error);
      };
      waiting.push(start);
      signal?.addEventListener('abort', leave, { once: true });
    });
  return async (work, signal) => {
    signal?.throwIfAborted();
    if (free > 0) free -= 1;
    else await wait(signal);
    let isFreed = false;
    const freeSlot = (): void => {
      if (isFreed) return;
      isFreed = true;
      const next = waiting.shift();
      // The slot passes directly to the next waiter, so that a later call cannot take it.
      if (next === undefined) free += 1;
      else next();
    };
    try {
      return await work(freeSlot);
    } finally {
      freeSlot();
    }
  };
}

/**
 * Calls `work` after `firstMs` milliseconds, and again when the milliseconds that it returns have passed, one call at a
 * time. `work` must not reject. Returns a function that stops it. Its timers do not keep the process alive.
 */
export function callPeriodically(work: () => Promise<number>, firstMs: number): () => void {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  const callAfter = (ms: number): void => {
    timer = setTimeout(() => {
      void work().then((nextMs) => {
        if (!isStopped) callAfter(nextMs);
      });
    }, ms).unref();
  };
  callAfter(firstMs);
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}
