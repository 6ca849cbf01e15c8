import { UsageError } from './errors.ts';
import { printable } from './printable.ts';

/**
 * Throws `UsageError` for a new name with control characters, which the driver accepts from orchestrators: they would break
 * the lines of lists.
 */
export function requireNewName(name: string): void {
  if (!/\p{Cc}/u.test(name)) return;
  throw new UsageError(
    `the name '${printable(name)}' contains a line break, a tab or another control character; choose another name`,
  );
}
