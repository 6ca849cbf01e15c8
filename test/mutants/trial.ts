import { compiled } from './compiled.ts';
import { isOnDevices, type Mutant, mutated, type Row, type Subject } from './defect.ts';
import type { DriverCopy } from './driver-copy.ts';
import { mutantsOf } from './generated/operators.ts';
import type { Target } from './generated/targets.ts';
import type { TestRun } from './run-tests.ts';

export const generated = 'generated';

export async function mutantsOfRows({ title, rows }: Subject, copy: DriverCopy): Promise<Mutant[]> {
  const make = async (row: Row): Promise<Mutant> => ({
    subject: title,
    name: row.name,
    file: row.file,
    tests: row.tests,
    module: await compiled(mutated(await copy.sourceOf(row.file), row)),
    mayHang: row.mayHang === true,
  });
  return Promise.all(rows.map(make));
}

export async function mutantsOfTarget(target: Target, copy: DriverCopy): Promise<Mutant[]> {
  const { file, tests } = target;
  const all = mutantsOf(await compiled(await copy.sourceOf(file)));
  return all.map((one) => ({ ...one, subject: generated, file, tests, mayHang: true }));
}

export type Outcome = 'caught' | 'hung' | 'survived' | 'broken';

export interface Verdict {
  readonly mutant: Mutant;
  readonly outcome: Outcome;
  /** The test that failed, or the other result. */
  readonly by: string;
  readonly seconds: number;
}

/** A module that does not load detects nothing, and neither does a test that waits forever, unless the row allows it. */
export function isDetected({ mutant, outcome }: Verdict): boolean {
  return outcome === 'caught' || (outcome === 'hung' && mutant.mayHang);
}

/** Without a defect the tests take seconds. */
function timeLimitMs({ tests, subject }: Mutant): number {
  if (tests.some(isOnDevices)) return 5 * 60_000;
  return subject === generated ? 30_000 : 90_000;
}

/** Runs the tests of a mutant. `passing` has the titles that pass without the defect: only these tests can detect it. */
export async function tryMutant(
  copy: DriverCopy,
  mutant: Mutant,
  passing: ReadonlySet<string>,
): Promise<Verdict> {
  const run = await copy.try(mutant, timeLimitMs(mutant));
  return { mutant, ...judged(run, passing), seconds: run.seconds };
}

function judged(run: TestRun, passing: ReadonlySet<string>): Pick<Verdict, 'outcome' | 'by'> {
  const test = run.failed.find((title) => passing.has(title));
  if (test !== undefined) return { outcome: 'caught', by: test };
  if (run.isHung) return { outcome: 'hung', by: 'ended at the time limit' };
  if (run.failed.length === 0 && run.passed.size > 0 && run.exitCode === 0) {
    return { outcome: 'survived', by: `${run.passed.size} tests passed` };
  }
  // A module that does not load fails no test: it ends all of them.
  return { outcome: 'broken', by: `no test failed, but the run did:\n${run.tail}` };
}
