/**
 * Decodes the request bodies of the volume plugin API. Unknown fields are ignored, because later versions of Docker may add
 * some.
 */
import * as v from 'valibot';
import { VolumeError } from '../errors.ts';

/** Docker checks names more strictly; other clients of the socket may not. */
const maxNameLength = 255;
const maxOptionLength = 4096;
const maxOptionCount = 64;

const singleLine = (what: string, maxLength: number) =>
  v.pipe(
    v.string(`${what} must be a string`),
    v.nonEmpty(`${what} must not be empty`),
    v.maxLength(maxLength, `${what} is longer than ${maxLength} characters`),
    v.regex(/^\P{Cc}*$/u, `${what} contains control characters`),
  );

const name = singleLine('Name', maxNameLength);
const option = v.pipe(
  v.string('the value of an option must be a string'),
  v.maxLength(maxOptionLength, `an option is longer than ${maxOptionLength} characters`),
);

export const nameRequest = v.object({ Name: name });

/**
 * Refuses names that Docker cannot use later because it interprets them as a path, as two fields of `-v`, as a drive letter
 * or as a path of its API. The volume would be created, but the container would write its data elsewhere.
 */
const newName = v.pipe(
  name,
  v.check(
    (text) => text.length > 1,
    'a name needs at least two characters: Docker interprets a single character as a drive letter',
  ),
  v.regex(
    /^[^./~]/,
    (issue) =>
      `name '${issue.input}' begins like a path, so Docker would use a directory instead; begin it with a letter or digit`,
  ),
  v.regex(
    /^[^:]*$/,
    (issue) =>
      `name '${issue.input}' contains a colon, which ends the name in Docker's syntax; remove it`,
  ),
  v.check(
    (text) => text.split('/').every((part) => !['', '.', '..'].includes(part)),
    (issue) =>
      `name '${issue.input}' has a path component that Docker's API cannot address; remove the slash`,
  ),
);

export const createRequest = v.object({
  Name: newName,
  Opts: v.nullish(
    v.pipe(
      v.record(
        singleLine('the name of an option', maxNameLength),
        option,
        'Opts must be an object',
      ),
      v.check(
        (all) => Object.keys(all).length <= maxOptionCount,
        `there are more than ${maxOptionCount} options`,
      ),
    ),
  ),
});

/** `ID` is Docker's mount ID: one per container, the same in Mount and Unmount. */
export const mountRequest = v.object({ Name: name, ID: singleLine('ID', maxNameLength) });

/** Schema of calls without fields. podman sends List without a body. */
export const noFields = v.unknown();

export function isEmpty(body: string): boolean {
  return body.trim() === '';
}

/** Thrown to close the connection without a response, because Docker would misinterpret any response. */
export class NoResponseError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NoResponseError';
  }
}

/** Decodes a request body. Throws `invalid` with the name of the field. */
export function decode<S extends v.GenericSchema>(schema: S, body: string): v.InferOutput<S> {
  const result = v.safeParse(schema, parse(body));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  const isMissing = issue.input === undefined && field !== null;
  throw new VolumeError('invalid', isMissing ? `${field} is missing` : issue.message);
}

function parse(body: string): unknown {
  if (isEmpty(body)) return {};
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new VolumeError('invalid', 'the body is not JSON', { cause: error });
  }
}
