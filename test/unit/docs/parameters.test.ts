import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { fsTypes } from '../../../src/host/host.ts';
import { allowedMkfsFlags } from '../../../src/volumes/parameters/mkfs-options.ts';
import {
  allowedFilesystemOptions,
  allowedVfsOptions,
  describeMountOption,
} from '../../../src/volumes/parameters/mount-options.ts';
import {
  knownAttributes,
  knownParameters,
  knownSnapshotParameters,
  parametersAsMarkdown,
} from '../../../src/volumes/parameters/storage-class.ts';

const page = readFileSync(
  join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'parameters.md'),
  'utf8',
);

const inCode = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;

function mkfsTable(): string {
  const rows = fsTypes.flatMap((fsType) =>
    allowedMkfsFlags[fsType].map(({ flag, aliases = [], values, list = false }) => {
      const hints = values.map(({ hint }) => inCode(hint)).join(list ? ' and ' : ' or ');
      return `| ${fsType} | ${[flag, ...aliases].map(inCode).join(', ')} | ${hints} |`;
    }),
  );
  return ['| Filesystem | Flag | Value |', '|---|---|---|', ...rows].join('\n');
}

function mountTable(): string {
  const rows = [
    ['every one', allowedVfsOptions] as const,
    ...fsTypes.map((fsType) => [fsType, allowedFilesystemOptions[fsType]] as const),
  ].map(
    ([name, options]) =>
      `| ${name} | ${[...new Set(options.map(describeMountOption))].map(inCode).join(', ')} |`,
  );
  return ['| Filesystem | Options |', '|---|---|', ...rows].join('\n');
}

const tables = [
  { name: 'every StorageClass parameter', table: parametersAsMarkdown(knownParameters) },
  {
    name: 'every parameter of snapshot classes',
    table: parametersAsMarkdown(knownSnapshotParameters),
  },
  { name: 'every attribute of inline volumes', table: parametersAsMarkdown(knownAttributes) },
  { name: 'every flag that mkfs may get', table: mkfsTable() },
  { name: 'every mount option', table: mountTable() },
] as const;

for (const { name, table } of tables) {
  test(`docs/parameters.md has ${name}, as the code does`, (t) => {
    t.true(table.split('\n').length >= 3);
    t.true(page.includes(table), `put this into the file:\n\n${table}\n`);
  });
}
