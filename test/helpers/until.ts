import { setTimeout as delay } from 'node:timers/promises';
import { scaledMs } from './slowness.ts';

/** Waits until the condition holds. Throws an error that names it after `timeoutMs`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  for (const deadline = Date.now() + scaledMs(timeoutMs); Date.now() < deadline; await delay(10)) {
    if (await holds()) return;
  }
  throw new Error(`gave up waiting until ${what}`);
}
