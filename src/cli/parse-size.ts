import { parseBytes } from '../units.ts';
import { UsageError } from './errors.ts';

/**
 * Parses the size given to `flag`, before the driver is contacted: an invalid size is a usage error even when no driver runs.
 * Throws `invalid` for text that is not a size, `UsageError` for 0.
 */
export function parseSize(text: string, flag: string): bigint {
  const bytes = parseBytes(text, flag);
  if (bytes === 0n) throw new UsageError(`${flag}: '${text}' is zero; write for example 10Gi`);
  return bytes;
}
