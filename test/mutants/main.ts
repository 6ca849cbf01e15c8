/**
 * Checks whether tests can fail: makes deliberate defects in the compiled driver, one at a time, and runs the tests that must detect
 * each. Build first: the defects are made in a copy of `dist/`.
 *
 *   npm run test:mutants                    all defects
 *   npm run test:mutants -- --only TEXT     defects whose subject, name or file contains TEXT; `--only generated` excludes the rows
 *   npm run test:mutants -- --sample N      at most N generated defects of each file
 *   npm run test:mutants -- --write FILE    also writes every result to FILE, as Markdown
 *
 * It fails if a row does not match the driver, if no test detects a row's defect, and if more of a file's generated defects
 * survive than its target allows.
 */
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatCounts } from '../../scripts/test-counts.ts';
import { defects as powerCutDefects } from '../vm/power-cuts/defects.ts';
import { subjects } from './all.ts';
import { findProblems } from './check.ts';
import { type Defect, isOnDevices, type Mutant } from './defect.ts';
import { DriverCopy } from './driver-copy.ts';
import { targets } from './generated/targets.ts';
import { reportOf } from './report.ts';
import { findPassingTests, tryAll } from './run-mutants.ts';
import { generated, isDetected, mutantsOfRows, mutantsOfTarget, type Verdict } from './trial.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const insideVariable = 'LOOPCSI_MUTANTS_INSIDE';
const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    sample: { type: 'string' },
    write: { type: 'string' },
  },
});
const sample = values.sample === undefined ? Number.POSITIVE_INFINITY : Number(values.sample);
const isRoot = process.getuid?.() === 0;

if (!(sample >= 1)) {
  console.error(`--sample ${String(values.sample)}: must be a number, at least 1`);
  process.exitCode = 2;
} else if (isRoot && process.env[insideVariable] === undefined) {
  // In its own mount namespace: mounts that a defect leaves end with it, and other programs do not get copies of them.
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

async function main(): Promise<number> {
  if (!(await allRowsMatch())) return 1;
  const startedAtMs = performance.now();
  // The exit handlers kill the tests and remove their files (driver-copy.ts, run-tests.ts).
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const copies = [await DriverCopy.make(), await DriverCopy.make()] as const;
  try {
    const wanted = await wantedMutants(copies[0]);
    const mutants = wanted.filter(({ tests }) => isRoot || !tests.some(isOnDevices));
    const passing = await findPassingTests(copies, mutants);
    if (passing === undefined) return 1;
    const verdicts = await tryAll(copies, { mutants, passing }, (verdict) => {
      console.log(lineOf(verdict));
    });
    const failed = countFailed(verdicts);
    const skipped = wanted.length - mutants.length;
    const minutes = ((performance.now() - startedAtMs) / 60_000).toFixed(1);
    if (skipped > 0) console.log(`${skipped} need root and were not tried`);
    console.log(`tried ${verdicts.length} defects in ${minutes} minutes\n`);
    console.log(formatCounts({ passed: verdicts.length - failed, failed, skipped }));
    if (values.write !== undefined) await writeFile(values.write, reportOf(verdicts));
    return failed > 0 || verdicts.length === 0 ? 1 : 0;
  } finally {
    for (const copy of copies) await copy.remove();
  }
}

async function allRowsMatch(): Promise<boolean> {
  const rows = subjects.flatMap((subject) => subject.rows);
  const known = new Set<Defect>(rows);
  const others = powerCutDefects.filter((defect) => !known.has(defect));
  const problems = await findProblems(root, { rows, others, targets });
  if (problems.length > 0) {
    console.error(`${problems.length} rows or targets are stale:\n${problems.join('\n')}`);
  }
  return problems.length === 0;
}

async function wantedMutants(copy: DriverCopy): Promise<readonly Mutant[]> {
  const isWanted = ({ subject, name, file }: Mutant): boolean =>
    `${subject}\n${name}\n${file}`.includes(values.only);
  const mutants: Mutant[] = [];
  for (const subject of subjects) {
    mutants.push(...(await mutantsOfRows(subject, copy)).filter(isWanted));
  }
  for (const target of targets) {
    mutants.push(...sampleOf((await mutantsOfTarget(target, copy)).filter(isWanted)));
  }
  return mutants;
}

/** Spread evenly over the file, so that every run tries the same ones. */
function sampleOf(mutants: readonly Mutant[]): readonly Mutant[] {
  const step = Math.max(1, mutants.length / sample);
  return mutants.filter((_, index) => Math.floor(index / step) !== Math.floor((index - 1) / step));
}

function lineOf(verdict: Verdict): string {
  const { mutant, outcome, by, seconds } = verdict;
  const shown = isDetected(verdict) ? outcome : outcome.toUpperCase();
  return `${shown.padEnd(9)} ${seconds.toFixed(1).padStart(6)} s  ${mutant.name} (src/${mutant.file}): ${by}`;
}

/** Undetected rows, and survivors beyond what each target allows. */
function countFailed(verdicts: readonly Verdict[]): number {
  const undetected = verdicts.filter((verdict) => !isDetected(verdict)).map(({ mutant }) => mutant);
  let failed = undetected.filter(({ subject }) => subject !== generated).length;
  for (const { file, maxSurvivors } of targets) {
    const own = ({ subject, file: one }: Mutant): boolean => subject === generated && one === file;
    const survivors = undetected.filter(own).length;
    failed += Math.max(0, survivors - maxSurvivors);
    if (survivors > maxSurvivors) {
      console.log(`src/${file}: ${survivors} generated defects survived, ${maxSurvivors} may`);
    }
    const wasWhole = values.only === '' && values.sample === undefined;
    if (wasWhole && survivors < maxSurvivors) {
      console.log(`src/${file}: only ${survivors} survived: lower maxSurvivors to that`);
    }
  }
  return failed;
}
