/** What stops a start, or should be known, before anything is opened. */
import { unknownVariables } from './config/load.ts';
import type { Logger } from './observe/log.ts';

/** Throws for everybody else: what comes later would fail one by one, each with words of its own. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new Error(
    'serving needs root: it attaches loop devices and mounts them; start it as root, for example with sudo',
  );
}

export function tellUnknownVariables(
  log: Logger,
  variables: Readonly<Record<string, string | undefined>>,
): void {
  const names = unknownVariables(variables);
  if (names.length > 0) log.warn({ variables: names }, 'environment variables are not known');
}
