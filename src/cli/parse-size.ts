import { VolumeError } from '../errors.ts';
import { parseTypedSize } from '../units.ts';
import { UsageError } from './errors.ts';

/**
 * Parses the value of a size flag. It runs before the connection to the driver, so that an invalid size is a usage error even
 * if no driver is running. Throws `UsageError` for 0 and for text that is not a size.
 */
export function parseSize(text: string, flag: string): bigint {
  const bytes = parseText(text, flag);
  if (bytes === 0n) throw new UsageError(`${flag}: '${text}' is zero; use a value such as 10Gi`);
  return bytes;
}

function parseText(text: string, flag: string): bigint {
  try {
    return parseTypedSize(text, flag);
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Parses a new size, `20Gi`, or an increase, `+5Gi`. Returns a function of the present size. Throws as `parseSize`. */
export function parseNewSize(text: string, flag: string): (presentBytes: bigint) => bigint {
  if (!text.startsWith('+')) {
    const bytes = parseSize(text, flag);
    return () => bytes;
  }
  const increase = parseSize(text.slice(1), flag);
  return (presentBytes) => presentBytes + increase;
}
