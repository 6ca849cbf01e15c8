/** The chart refuses a parameter of a class that the driver would refuse. Its schema therefore repeats what the driver knows. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import {
  knownParameters,
  knownSnapshotParameters,
  parseParameters,
  parseSnapshotParameters,
} from '../../src/volumes/parameters/storage-class.ts';

const path = join(import.meta.dirname, '../../../charts/loopcsi/values.schema.json');

const parameter = v.looseObject({
  enum: v.optional(v.array(v.union([v.string(), v.number(), v.boolean()]))),
});
const schema = v.parse(
  v.object({
    definitions: v.record(
      v.string(),
      v.object({
        properties: v.record(
          v.string(),
          v.looseObject({ properties: v.optional(v.record(v.string(), v.unknown()), {}) }),
        ),
      }),
    ),
  }),
  JSON.parse(readFileSync(path, 'utf8')),
);

/** The parameters of a class in the schema, and the words that each accepts; undefined if it accepts any text. */
function parametersOf(name: string): Readonly<Record<string, readonly string[] | undefined>> {
  const properties = schema.definitions[name]?.properties['parameters']?.properties ?? {};
  return Object.fromEntries(
    Object.entries(properties).map(([key, value]) => [
      key,
      v.parse(parameter, value).enum?.filter((one) => typeof one === 'string'),
    ]),
  );
}

interface Class {
  readonly name: string;
  readonly known: Readonly<Record<string, { readonly values: string }>>;
  readonly parse: (parameters: Readonly<Record<string, string>>) => unknown;
}

const classes: readonly Class[] = [
  {
    name: 'storageClass',
    known: knownParameters,
    parse: (parameters) => parseParameters(parameters, 'ext4'),
  },
  {
    name: 'volumeSnapshotClass',
    known: knownSnapshotParameters,
    parse: parseSnapshotParameters,
  },
];

for (const { name, known, parse } of classes) {
  test(`${name}: the schema has the parameters of the driver, and their values`, (t) => {
    const found = parametersOf(name);
    t.deepEqual(Object.keys(found).sort(), Object.keys(known).sort());
    for (const [key, { values }] of Object.entries(known)) {
      // The documentation of a parameter lists its values as code, or describes them.
      const documented = [...values.matchAll(/`([^`]+)`/g)].map((match) => match[1]);
      t.deepEqual(found[key] ?? [], documented, key);
      for (const value of found[key] ?? []) {
        t.notThrows(() => parse({ [key]: value }), `${key}: ${value}`);
      }
    }
  });
}
