import { eventually as eventuallyWithin } from '../../scripts/command.ts';
import { scaledMs } from '../helpers/slowness.ts';

/** Polls as `eventually` of scripts/command.ts. The time limit, one minute by default, is multiplied by the slowness of the machine. */
export async function eventually<T>(
  what: string,
  find: () => Promise<T | undefined>,
  options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const timeoutMs = scaledMs(options.timeoutMs ?? 60_000);
  return eventuallyWithin(what, find, { ...options, timeoutMs });
}
