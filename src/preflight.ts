/** Checks that `serve` makes before it opens anything. */
import { unknownVariables } from './config/load.ts';
import type { Logger } from './observe/log.ts';

/** Without root, each later step would fail with an error of its own. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new Error(
    'serving needs root, to attach loop devices and to mount; start it as root, for example with sudo',
  );
}

export function warnAboutUnknownVariables(
  log: Logger,
  variables: Readonly<Record<string, string | undefined>>,
): void {
  const names = unknownVariables(variables);
  if (names.length > 0)
    log.warn({ variables: names }, 'unknown environment variables were ignored');
}
