/** Checks that `serve` and `controller` make before they open any socket or pool. */
import { unknownVariables } from './config/load.ts';
import type { OptionTable } from './config/options.ts';
import type { Logger } from './observe/log.ts';

/** Fails early, with one clear message: without root, every later step would fail with its own error. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new Error(
    'serve must run as root to attach loop devices and to mount; start it as root, for example with sudo',
  );
}

export function warnAboutUnknownVariables(
  log: Logger,
  variables: Readonly<Record<string, string | undefined>>,
  table?: OptionTable,
): void {
  const names = unknownVariables(variables, table);
  if (names.length > 0)
    log.warn({ variables: names }, 'unknown environment variables were ignored');
}
