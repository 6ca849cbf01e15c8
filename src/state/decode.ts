import * as v from 'valibot';
import { VolumeError } from '../errors.ts';

/** A byte count as records hold it: a decimal string, since JSON numbers end at 2^53. */
export const byteCount = v.pipe(
  v.string(),
  v.regex(/^\d{1,19}$/, 'not a byte count'),
  v.transform((text) => BigInt(text)),
);

/**
 * Decodes the text of a record. Throws `internal`, naming the file and the field: a record that does not decode stops its
 * own volume, not the driver, and is never overwritten.
 */
export function decodeJson<S extends v.GenericSchema>(
  schema: S,
  text: string,
  path: string,
): v.InferOutput<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new VolumeError('internal', `${path} is not JSON; restore it from a backup`, { cause });
  }
  const result = v.safeParse(schema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new VolumeError(
      'internal',
      `${path} cannot be read: ${v.getDotPath(issue) ?? 'record'}: ${issue.message}; it is left as it is`,
    );
  }
  return result.output;
}

/** JSON as records are written: bigint as decimal strings, indented for people, a newline at the end. */
export function encodeJson(value: unknown): string {
  const text = JSON.stringify(
    value,
    (_key, field: unknown) => (typeof field === 'bigint' ? field.toString() : field),
    2,
  );
  return `${text}\n`;
}
