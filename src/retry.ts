import { setTimeout as delay } from 'node:timers/promises';

export interface RetryOptions {
  /** Whether an error may go away without the caller doing anything. */
  readonly isTransient: (error: unknown) => boolean;
  readonly timeoutMs: number;
  readonly pauseMs: number;
  /** The pause doubles up to this value; by default it stays the same. */
  readonly maxPauseMs?: number;
  readonly signal?: AbortSignal;
}

/** Repeats `call` while it fails with a transient error. Throws the last error on timeout or abort. */
export async function retry<T>(call: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { isTransient, timeoutMs, maxPauseMs = options.pauseMs, signal } = options;
  // A monotonic clock: setting the system time must not end or prolong the retries.
  const endMs = performance.now() + timeoutMs;
  for (let { pauseMs } = options; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    try {
      return await call();
    } catch (error) {
      const isTimedOut = performance.now() + pauseMs > endMs;
      if (!isTransient(error) || isTimedOut || signal?.aborted === true) throw error;
    }
    // An abort ends the pause, and the next attempt reports it.
    await delay(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}
