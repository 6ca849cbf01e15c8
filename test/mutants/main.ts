/**
 * Tries whether tests can fail: puts deliberate defects into the compiled driver, one at a time, and demands that a test of
 * those named beside each turns red. Build first: what is tried is `dist/`.
 *
 *   npm run test:mutants                   all of them
 *   npm run test:mutants -- --only TEXT    those whose name, kind or file holds the text
 *   npm run test:mutants -- --write        all of them, and writes docs/mutants.md
 */
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatCounts } from '../../scripts/test-counts.ts';
import { defects as powerCutDefects } from '../vm/power-cuts/defects.ts';
import { kinds } from './all.ts';
import { findProblems } from './check.ts';
import { type Defect, isOnDevices, type Mutant } from './mutant.ts';
import { pageOf } from './page.ts';
import { isRight, tryMutant, type Verdict } from './trial.ts';
import { Workbench } from './workbench.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const insideVariable = 'LOOPCSI_MUTANTS_INSIDE';
const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
  },
});
const isRoot = process.getuid?.() === 0;

if (isRoot && process.env[insideVariable] === undefined) {
  // A mount namespace of its own: what a defect leaves mounted ends with it, and no other program copies it.
  const { status } = spawnSync(
    'unshare',
    [
      '--mount',
      '--propagation',
      'private',
      process.execPath,
      ...process.execArgv,
      ...process.argv.slice(1),
    ],
    { stdio: 'inherit', env: { ...process.env, [insideVariable]: 'yes' } },
  );
  process.exitCode = status ?? 1;
} else process.exitCode = await main();

/** All that is asked for; the exit code. */
async function main(): Promise<number> {
  const startedAtMs = performance.now();
  const all = kinds.flatMap(({ mutants }) => mutants);
  const known = new Set<Defect>(all);
  const problems = findProblems(root, {
    mutants: all,
    others: [
      ...kinds.flatMap(({ invisible = [] }) => invisible),
      ...powerCutDefects.filter((defect) => !known.has(defect)),
    ],
  });
  if (problems.length > 0) {
    console.error(`${problems.length} rows do not fit the driver:\n${problems.join('\n')}`);
    return 1;
  }
  // What runs, and what was made for it, ends with this process (workbench.ts, run-tests.ts).
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const rows = kinds
    .flatMap(({ title, mutants }) => mutants.map((mutant) => ({ title, mutant })))
    .filter(({ title, mutant: { name, file } }) =>
      `${title}\n${name}\n${file}`.includes(values.only),
    )
    .map(({ mutant }) => mutant);
  const inMemory = rows.filter(({ red }) => !red.some(isOnDevices));
  // Those on real devices are tried alone, so they come last.
  const mutants = isRoot
    ? [...inMemory, ...rows.filter((mutant) => !inMemory.includes(mutant))]
    : inMemory;
  const benches = [await Workbench.make(), await Workbench.make()] as const;
  try {
    const titles = await titlesWithout(benches, mutants);
    if (titles === undefined) return 1;
    const verdicts = await tryAll(benches, mutants, titles);
    const failed = verdicts.filter((verdict) => !isRight(verdict)).length;
    const skipped = rows.length - mutants.length;
    const minutes = ((performance.now() - startedAtMs) / 60_000).toFixed(1);
    if (skipped > 0) console.log(`${skipped} need root and were not tried`);
    console.log(`tried ${verdicts.length} defects in ${minutes} minutes\n`);
    console.log(formatCounts({ passed: verdicts.length - failed, failed, skipped }));
    if (values.write && failed + skipped === 0 && values.only === '') {
      await writeFile(join(root, 'docs', 'mutants.md'), pageOf(kinds, verdicts));
    }
    return failed > 0 || verdicts.length === 0 ? 1 : 0;
  } finally {
    for (const bench of benches) await bench.remove();
  }
}

/** Titles of the tests as they pass without a defect; undefined when one does not, which is said. */
async function titlesWithout(
  benches: readonly Workbench[],
  mutants: readonly Mutant[],
): Promise<ReadonlySet<string> | undefined> {
  const files = new Set(mutants.map(({ file }) => file));
  for (const bench of benches) await bench.takeOver(files);
  const all = [...new Set(mutants.flatMap(({ red }) => red))];
  const inMemory = all.filter((one) => !isOnDevices(one));
  const shares = benches.map((bench, share) => ({
    bench,
    red: inMemory.filter((_, index) => index % benches.length === share),
  }));
  const runs = await Promise.all(shares.map(({ bench, red }) => passing(bench, red)));
  const [bench] = benches;
  if (bench !== undefined) runs.push(await passing(bench, all.filter(isOnDevices)));
  const titles = runs.flatMap((one) => (one === undefined ? [] : [...one]));
  if (runs.includes(undefined)) return undefined;
  console.log(`without a defect: ${titles.length} tests of ${all.length} files pass`);
  return new Set(titles);
}

/** Titles of tests that pass, as all of them must. */
async function passing(
  bench: Workbench,
  red: readonly string[],
): Promise<ReadonlySet<string> | undefined> {
  if (red.length === 0) return new Set();
  // Once more on a machine that is busy with other things: here it is not the tests that are tried.
  for (const isLast of [false, true]) {
    const run = await bench.run(red, { boundMs: 15 * 60_000 });
    if (run.failed.length === 0 && run.exitCode === 0) return run.passed;
    console.log(`without a defect these fail already: ${run.failed.join('; ')}`);
    if (isLast) console.log(run.tail);
  }
  return undefined;
}

/** Two at a time, those on real devices alone; told in the order given. */
async function tryAll(
  benches: readonly Workbench[],
  mutants: readonly Mutant[],
  titles: ReadonlySet<string>,
): Promise<readonly Verdict[]> {
  const verdicts = new Map<Mutant, Verdict>();
  let told = 0;
  const tell = (): void => {
    for (let next = mutants[told]; next !== undefined; next = mutants[told]) {
      const verdict = verdicts.get(next);
      if (verdict === undefined) return;
      console.log(lineOf(verdict));
      told += 1;
    }
  };
  const alone = mutants.filter(({ red }) => red.some(isOnDevices));
  const queue = mutants.filter((mutant) => !alone.includes(mutant));
  const work = async (bench: Workbench, from: Mutant[]): Promise<void> => {
    for (let mutant = from.shift(); mutant !== undefined; mutant = from.shift()) {
      verdicts.set(mutant, await tryMutant(bench, mutant, titles));
      tell();
    }
  };
  await Promise.all(benches.map((bench) => work(bench, queue)));
  const [bench] = benches;
  if (bench !== undefined) await work(bench, alone);
  return mutants.flatMap((mutant) => verdicts.get(mutant) ?? []);
}

function lineOf(verdict: Verdict): string {
  const { mutant, outcome, by, seconds } = verdict;
  const word = isRight(verdict) ? outcome : outcome.toUpperCase();
  return `${word.padEnd(9)} ${seconds.toFixed(1).padStart(6)} s  ${mutant.name} (src/${mutant.file}): ${by}`;
}
