import { UsageError } from './errors.ts';
import { printable } from './printable.ts';

/**
 * Throws `UsageError` for new names that the driver accepts from orchestrators, but that cannot be used on a command line: those with
 * control characters would break the lines of lists, and `-` means standard input or output.
 */
export function requireNewName(name: string): void {
  if (name === '-') {
    throw new UsageError(
      "'-' means standard input or output, so it cannot be a name; choose another name",
    );
  }
  if (!/\p{Cc}/u.test(name)) return;
  throw new UsageError(
    `the name '${printable(name)}' contains a line break, a tab or another control character; choose another name`,
  );
}
