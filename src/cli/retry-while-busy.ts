import { setTimeout as delay } from 'node:timers/promises';
import { failureOf } from './errors.ts';
import { withProgress } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** Long enough for a container that starts elsewhere and holds a copy of every mount meanwhile; short for a person. */
const patienceMs = 15_000;
const againMs = 200;

/**
 * Calls again while the answer is ABORTED: something is in progress or in use, and may not be in a moment. Orchestrators do the
 * same. Throws the last answer when patience is at its end.
 */
export async function patiently<T>(
  terminal: Terminal,
  what: string,
  call: () => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  return withProgress(terminal, what, async () => {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (failureOf(error).code !== 'ABORTED' || performance.now() > deadline) throw error;
      }
      await delay(againMs);
    }
  });
}
