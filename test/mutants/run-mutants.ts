import { isOnDevices, type Mutant } from './defect.ts';
import type { DriverCopy } from './driver-copy.ts';
import { tryMutant, type Verdict } from './trial.ts';

type DriverCopies = readonly [DriverCopy, DriverCopy];

/** Titles of the tests that pass without a defect; undefined, with a message, if a test fails. */
export async function findPassingTests(
  copies: DriverCopies,
  mutants: readonly Mutant[],
): Promise<ReadonlySet<string> | undefined> {
  const files = new Set(mutants.map(({ file }) => file));
  for (const copy of copies) await copy.takeOver(files);
  const all = [...new Set(mutants.flatMap(({ tests }) => tests))];
  const inMemory = all.filter((test) => !isOnDevices(test));
  const shares = copies.map((copy, share) => ({
    copy,
    tests: inMemory.filter((_, index) => index % copies.length === share),
  }));
  const runs = await Promise.all(shares.map(({ copy, tests }) => titlesThatPass(copy, tests)));
  runs.push(await titlesThatPass(copies[0], all.filter(isOnDevices)));
  if (runs.includes(undefined)) return undefined;
  const titles = new Set(runs.flatMap((run) => [...(run ?? [])]));
  console.log(`without a defect: ${titles.size} tests of ${all.length} files pass`);
  return titles;
}

async function titlesThatPass(
  copy: DriverCopy,
  tests: readonly string[],
): Promise<ReadonlySet<string> | undefined> {
  if (tests.length === 0) return new Set();
  // On a busy machine a test may miss its time limit once.
  for (const isLast of [false, true]) {
    const run = await copy.run(tests, { timeLimitMs: 15 * 60_000 });
    if (run.failed.length === 0 && run.exitCode === 0) return run.passed;
    console.log(`without a defect these fail already: ${run.failed.join('; ')}`);
    if (isLast) console.log(run.tail);
  }
  return undefined;
}

/** Runs two mutants at a time, then the ones on devices one by one. Reports each one as soon as all earlier ones have ended. */
export async function tryAll(
  copies: DriverCopies,
  { mutants, passing }: { mutants: readonly Mutant[]; passing: ReadonlySet<string> },
  report: (verdict: Verdict) => void,
): Promise<readonly Verdict[]> {
  const inMemory = mutants.filter(({ tests }) => !tests.some(isOnDevices));
  const onDevices = mutants.filter((mutant) => !inMemory.includes(mutant));
  const ordered = [...inMemory, ...onDevices];
  const verdicts: Verdict[] = [];
  let reported = 0;
  const work = async (copy: DriverCopy, queue: Mutant[]): Promise<void> => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      verdicts[ordered.indexOf(mutant)] = await tryMutant(copy, mutant, passing);
      for (let next = verdicts[reported]; next !== undefined; next = verdicts[reported]) {
        report(next);
        reported += 1;
      }
    }
  };
  await Promise.all(copies.map((copy) => work(copy, inMemory)));
  await work(copies[0], onDevices);
  return verdicts;
}
