import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiled } from './compiled.ts';
import { type Defect, mutated, type Row, testPathOf } from './defect.ts';
import type { Target } from './generated/targets.ts';

/** The errors of rows and targets, found before any defect is tried; empty if all match the driver and its tests. */
export async function findProblems(
  root: string,
  options: {
    rows: readonly Row[];
    /** Defects that other tests try. */
    others: readonly Defect[];
    targets: readonly Target[];
  },
): Promise<readonly string[]> {
  const { rows, others, targets } = options;
  const missing = (owner: string, paths: readonly string[]): readonly string[] =>
    paths
      .filter((path) => !existsSync(join(root, path)))
      .map((path) => `${owner}: ${path} does not exist`);
  const testFiles = (tests: readonly string[]): readonly string[] =>
    tests.map((test) => `${testPathOf(test)}.ts`);
  const stale = await Promise.all([...rows, ...others].map((row) => staleness(root, row)));
  return [
    ...stale.flat(),
    ...duplicates(rows.map(({ name }) => name)).map((name) => `${name}: two rows have this name`),
    ...duplicates(targets.map(({ file }) => file)).map((file) => `${file}: two targets`),
    ...rows.flatMap(({ name, tests }) => missing(name, testFiles(tests))),
    ...targets.flatMap(({ file, tests }) =>
      missing(`target ${file}`, [`src/${file}`, ...testFiles(tests)]),
    ),
    ...[...rows, ...targets]
      .filter(({ tests }) => tests.length === 0)
      .map((one) => `${'name' in one ? one.name : one.file}: no test file is named`),
  ];
}

async function staleness(root: string, row: Defect): Promise<readonly string[]> {
  const path = join(root, 'src', row.file);
  if (!existsSync(path)) return [`${row.name}: src/${row.file} does not exist`];
  const source = readFileSync(path, 'utf8');
  try {
    const changed = mutated(source, row);
    if (changed === source) return [`${row.name}: the row changes nothing`];
    await compiled(changed);
    return [];
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return [problem.startsWith(row.name) ? problem : `${row.name}: ${problem}`];
  }
}

function duplicates(names: readonly string[]): readonly string[] {
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
}
