/** The bodies of the volume plugin API, decoded once. Fields that are not known are passed over, as Docker may add some. */
import * as v from 'valibot';
import { VolumeError } from '../errors.ts';

/** Docker's own names are shorter and of fewer characters; other callers of the socket are not bound by that. */
const longestName = 255;
const longestOption = 4096;
const mostOptions = 64;

const line = (what: string, longest: number) =>
  v.pipe(
    v.string(`${what} must be text`),
    v.nonEmpty(`${what} must not be empty`),
    v.maxLength(longest, `${what} is longer than ${longest} characters`),
    v.regex(/^\P{Cc}*$/u, `${what} holds control characters`),
  );

const name = line('Name', longestName);
const option = v.pipe(
  v.string('the value of an option must be text'),
  v.maxLength(longestOption, `an option is longer than ${longestOption} characters`),
);

export const named = v.object({ Name: name });

export const create = v.object({
  Name: name,
  Opts: v.nullish(
    v.pipe(
      v.record(line('the name of an option', longestName), option, 'Opts must be an object'),
      v.check((all) => Object.keys(all).length <= mostOptions, `more than ${mostOptions} options`),
    ),
  ),
});

/** `ID` is Docker's for the mount: one a container, and the same one again at Unmount. */
export const mount = v.object({ Name: name, ID: line('ID', longestName) });

/** Some calls come without a body, and podman's List too. */
export const nothing = v.unknown();

/** Parses and decodes a body. Throws `invalid` naming the field. */
export function decode<S extends v.GenericSchema>(schema: S, body: string): v.InferOutput<S> {
  const result = v.safeParse(schema, parse(body));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  const missing = issue.input === undefined && field !== null;
  throw new VolumeError('invalid', missing ? `${field} is missing` : issue.message);
}

function parse(body: string): unknown {
  if (body.trim() === '') return {};
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new VolumeError('invalid', 'the body is not JSON', { cause: error });
  }
}
