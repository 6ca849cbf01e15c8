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

/** Runs the jobs, at most `concurrency` of them at a time. Fails with the first failure. */
export async function runConcurrently(
  jobs: readonly (() => Promise<void>)[],
  concurrency: number,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) await job();
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, jobs.length) }, worker));
}
