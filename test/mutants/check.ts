import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Defect, type Mutant, mutated, testPathOf } from './mutant.ts';

/** What is wrong with the rows before any of them is tried; empty when every row fits the driver and its tests. */
export function findProblems(
  root: string,
  { mutants, others }: { mutants: readonly Mutant[]; others: readonly Defect[] },
): readonly string[] {
  const all = [...mutants, ...others];
  return [
    ...all.flatMap((row) => staleness(root, row)),
    ...duplicates(all.map(({ name }) => name)).map((name) => `${name}: two rows have this name`),
    ...mutants.flatMap(({ name, red }) => [
      ...(red.length === 0 ? [`${name}: the row names no test file`] : []),
      ...red
        .map((one) => `${testPathOf(one)}.ts`)
        .filter((path) => !existsSync(join(root, path)))
        .map((path) => `${name}: ${path} does not exist`),
    ]),
  ];
}

function staleness(root: string, row: Defect): readonly string[] {
  const path = join(root, 'src', row.file);
  if (!existsSync(path)) return [`${row.name}: src/${row.file} does not exist`];
  const source = readFileSync(path, 'utf8');
  try {
    return mutated(source, row) === source ? [`${row.name}: the row changes nothing`] : [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

function duplicates(names: readonly string[]): readonly string[] {
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
}
