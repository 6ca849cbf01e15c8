/**
 * Generates the table of values in charts/loopcsi/README.md from the descriptions in values.schema.json and the defaults in
 * values.yaml. With `--check`, it writes nothing, and exits with 1 if the table is out of date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { parse } from 'yaml';

const chart = join(import.meta.dirname, '..', '..', 'charts', 'loopcsi');
const [begin, end] = ['<!-- values: begin -->', '<!-- values: end -->'];

interface Property {
  readonly description?: string | undefined;
  readonly properties?: Readonly<Record<string, Property>> | undefined;
}

const property: v.GenericSchema<unknown, Property> = v.object({
  description: v.optional(v.string()),
  properties: v.optional(
    v.record(
      v.string(),
      v.lazy(() => property),
    ),
  ),
});

const anything = v.record(v.string(), v.unknown());

/** One row for each leaf, in the order of the schema. Throws if a value has no description. */
function tableRows(schema: Property, defaults: unknown, path: readonly string[]): string[] {
  if (schema.properties === undefined) {
    const name = path.join('.');
    if (schema.description === undefined)
      throw new Error(`${name} has no description in the schema`);
    const shown = defaults === undefined ? '' : `\`${JSON.stringify(defaults)}\``;
    return [`| \`${name}\` | ${escapeCell(shown)} | ${escapeCell(schema.description)} |`];
  }
  const values = v.is(anything, defaults) ? defaults : {};
  return Object.entries(schema.properties).flatMap(([key, child]) =>
    tableRows(child, values[key], [...path, key]),
  );
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

const schema = v.parse(
  property,
  JSON.parse(await readFile(join(chart, 'values.schema.json'), 'utf8')),
);
const defaults: unknown = parse(await readFile(join(chart, 'values.yaml'), 'utf8'));
const table = [
  '| Value | Default | Meaning |',
  '|---|---|---|',
  ...tableRows(schema, defaults, []),
];

const path = join(chart, 'README.md');
const before = await readFile(path, 'utf8');
const [head, rest = ''] = before.split(begin);
const after = [head, begin, '\n', table.join('\n'), '\n', end, rest.split(end)[1]].join('');
if (process.argv.includes('--check')) {
  if (after !== before) {
    console.error(
      'charts/loopcsi/README.md: the table of values is out of date; run npm run generate',
    );
    process.exitCode = 1;
  }
} else {
  await writeFile(path, after);
}
