import { retry } from '../async.ts';
import { failureOf } from './errors.ts';
import { withProgress } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** Long enough for a starting container to unmount its copies of the machine's mounts, which can take several seconds. */
const timeoutMs = 15_000;
const pauseMs = 200;

/**
 * Repeats `call` while the driver returns ABORTED, which means that the volume is in use or locked. Orchestrators do the
 * same.
 */
export async function retryWhileBusy<T>(
  terminal: Terminal,
  activity: string,
  call: () => Promise<T>,
): Promise<T> {
  const isTransient = (error: unknown): boolean => failureOf(error).code === 'ABORTED';
  return withProgress(terminal, activity, () => retry(call, { isTransient, timeoutMs, pauseMs }));
}
