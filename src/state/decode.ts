import * as v from 'valibot';
import { VolumeError } from '../errors.ts';

/** A byte count as records hold it: a decimal string, since JSON numbers end at 2^53. */
export const byteCount = v.pipe(
  v.string(),
  v.regex(/^\d{1,19}$/, 'not a byte count'),
  v.transform((text) => BigInt(text)),
);

/** The version of every record that this driver writes, and the only one that it reads. */
const knownVersion = 1;

/** A record of a later version of the driver: it is whole, so it must be neither replaced nor removed as a damaged one may be. */
export class LaterVersionError extends VolumeError {
  constructor(path: string, version: number) {
    super(
      'wrong-state',
      `${path} was written by a later version of loopcsi (schemaVersion ${version}, this one reads ${knownVersion}); upgrade the driver`,
    );
    this.name = 'LaterVersionError';
  }
}

/** An object whose unknown fields are kept: a record that this version rewrites keeps what a later one wrote into it. */
export function looseRecord<const E extends v.ObjectEntries>(
  entries: E,
): v.GenericSchema<
  v.InferInput<v.ObjectSchema<E, undefined>>,
  v.InferOutput<v.ObjectSchema<E, undefined>>
> {
  return v.looseObject(entries);
}

/**
 * Decodes the text of a record. Throws `internal`, naming the file and the field: a record that does not decode stops its
 * own volume, not the driver, and is never overwritten. Throws LaterVersionError for one of a later version.
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
    const version = versionOf(value);
    if (version > knownVersion) throw new LaterVersionError(path, version);
    const issue = result.issues[0];
    throw new VolumeError(
      'internal',
      `${path} cannot be read: ${v.getDotPath(issue) ?? 'record'}: ${issue.message}; it is left as it is`,
    );
  }
  return result.output;
}

function versionOf(value: unknown): number {
  if (typeof value !== 'object' || value === null || !('schemaVersion' in value)) return 0;
  return typeof value.schemaVersion === 'number' ? value.schemaVersion : 0;
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
