/** Values of flags, looked at before a driver is asked: what can never be right is wrong use, with or without one. */
import { parseBytes } from '../units.ts';
import { UsageError } from './errors.ts';

/** Bytes of a size that a person typed. Throws `invalid` for what is no size, `UsageError` for 0. */
export function sizeOf(text: string, flag: string): bigint {
  const bytes = parseBytes(text, flag);
  if (bytes === 0n) throw new UsageError(`${flag}: ${text} is nothing; write for example 10Gi`);
  return bytes;
}
