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

/**
 * What Docker could not use again, or would take for something else: a path, two words of `-v`, a drive, a path of its API.
 * A volume of such a name would be made, and the data would go elsewhere.
 */
const newName = v.pipe(
  name,
  v.check(
    (text) => text.length > 1,
    'a name needs two characters or more: Docker takes one for a drive',
  ),
  v.regex(
    /^[^./~]/,
    (issue) =>
      `name '${issue.input}' begins like a path, and Docker would take it for a directory; begin it with a letter or digit`,
  ),
  v.regex(
    /^[^:]*$/,
    (issue) =>
      `name '${issue.input}' holds a colon, which Docker takes for the end of the name; leave it out`,
  ),
  v.check(
    (text) => text.split('/').every((part) => !['', '.', '..'].includes(part)),
    (issue) => `name '${issue.input}' is not one that Docker finds again; leave out the slash`,
  ),
);

export const create = v.object({
  Name: newName,
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

/** Whether there is nothing in it. */
export function isEmpty(body: string): boolean {
  return body.trim() === '';
}

/** A call that is better not answered: whatever was said, its caller would draw a wrong conclusion from it. */
export class Unanswerable extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Unanswerable';
  }
}

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
  if (isEmpty(body)) return {};
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new VolumeError('invalid', 'the body is not JSON', { cause: error });
  }
}
