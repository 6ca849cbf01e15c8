import { parseBytes } from '../units.ts';
import { UsageError } from './errors.ts';

/**
 * Parses the value of a size flag. It runs before the connection to the driver, so that an invalid size is a usage error even
 * if no driver is running. Throws `invalid` for text that is not a size, `UsageError` for 0.
 */
export function parseSize(text: string, flag: string): bigint {
  const bytes = parseBytes(text, flag);
  if (bytes === 0n) throw new UsageError(`${flag}: '${text}' is zero; use a value such as 10Gi`);
  return bytes;
}
