import * as v from 'valibot';
import { VolumeError } from '../errors.ts';

/** A byte count in a record. It is a decimal string, because JSON numbers are exact only up to 2^53. */
export const byteCount = v.pipe(
  v.string(),
  v.regex(/^\d{1,19}$/, 'not a byte count'),
  v.transform((text) => BigInt(text)),
);

/** The schema version of all records, the only one that the driver reads and writes. */
const knownVersion = 1;

/**
 * Thrown for a record that a later version of the driver wrote. The record is intact, so unlike a damaged record it
 * must not be replaced or removed.
 */
export class LaterVersionError extends VolumeError {
  constructor(path: string, version: number) {
    super(
      'wrong-state',
      `${path} was written by a later version of loopcsi (schemaVersion ${version}, this one reads ${knownVersion}); upgrade the driver`,
    );
    this.name = 'LaterVersionError';
  }
}

/** An object schema that keeps unknown fields, so that rewriting a record preserves the fields of a later version. */
export function looseRecord<const E extends v.ObjectEntries>(
  entries: E,
): v.GenericSchema<
  v.InferInput<v.ObjectSchema<E, undefined>>,
  v.InferOutput<v.ObjectSchema<E, undefined>>
> {
  return v.looseObject(entries);
}

/**
 * Decodes the text of a record. If it is damaged, throws `internal` with the file and field; the driver then refuses
 * only that volume, and never overwrites the record. Throws LaterVersionError for a record of a later version.
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
    throw new VolumeError('internal', `${path} is not valid JSON; restore it from a backup`, {
      cause,
    });
  }
  const result = v.safeParse(schema, value);
  if (!result.success) {
    const version = versionOf(value);
    if (version > knownVersion) throw new LaterVersionError(path, version);
    const issue = result.issues[0];
    throw new VolumeError(
      'internal',
      `${path} cannot be decoded: ${v.getDotPath(issue) ?? 'record'}: ${issue.message}; the file was left unchanged; restore it from a backup`,
    );
  }
  return result.output;
}

function versionOf(value: unknown): number {
  if (typeof value !== 'object' || value === null || !('schemaVersion' in value)) return 0;
  return typeof value.schemaVersion === 'number' ? value.schemaVersion : 0;
}

/** Encodes a record as indented JSON with a trailing newline; bigints become decimal strings. */
export function encodeJson(value: unknown): string {
  const text = JSON.stringify(
    value,
    (_key, field: unknown) => (typeof field === 'bigint' ? field.toString() : field),
    2,
  );
  return `${text}\n`;
}
