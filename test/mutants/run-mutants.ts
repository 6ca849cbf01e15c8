import { isOnDevices, type Mutant } from './defect.ts';
import type { Workbench } from './driver-copy.ts';
import { tryMutant, type Verdict } from './trial.ts';

type Benches = readonly [Workbench, Workbench];

/** Titles of the tests that pass without a defect; undefined, with a message, if one does not. */
export async function findPassingTests(
  benches: Benches,
  mutants: readonly Mutant[],
): Promise<ReadonlySet<string> | undefined> {
  const files = new Set(mutants.map(({ file }) => file));
  for (const bench of benches) await bench.takeOver(files);
  const all = [...new Set(mutants.flatMap(({ tests }) => tests))];
  const inMemory = all.filter((test) => !isOnDevices(test));
  const shares = benches.map((bench, share) => ({
    bench,
    tests: inMemory.filter((_, index) => index % benches.length === share),
  }));
  const runs = await Promise.all(shares.map(({ bench, tests }) => titlesThatPass(bench, tests)));
  runs.push(await titlesThatPass(benches[0], all.filter(isOnDevices)));
  if (runs.includes(undefined)) return undefined;
  const titles = new Set(runs.flatMap((run) => [...(run ?? [])]));
  console.log(`without a defect: ${titles.size} tests of ${all.length} files pass`);
  return titles;
}

async function titlesThatPass(
  bench: Workbench,
  tests: readonly string[],
): Promise<ReadonlySet<string> | undefined> {
  if (tests.length === 0) return new Set();
  // On a busy machine a test may miss its time limit once.
  for (const isLast of [false, true]) {
    const run = await bench.run(tests, { timeLimitMs: 15 * 60_000 });
    if (run.failed.length === 0 && run.exitCode === 0) return run.passed;
    console.log(`without a defect these fail already: ${run.failed.join('; ')}`);
    if (isLast) console.log(run.tail);
  }
  return undefined;
}

/** Two at a time, then those on devices alone. Reports each as soon as those before it have ended. */
export async function tryAll(
  benches: Benches,
  { mutants, passing }: { mutants: readonly Mutant[]; passing: ReadonlySet<string> },
  report: (verdict: Verdict) => void,
): Promise<readonly Verdict[]> {
  const inMemory = mutants.filter(({ tests }) => !tests.some(isOnDevices));
  const onDevices = mutants.filter((mutant) => !inMemory.includes(mutant));
  const ordered = [...inMemory, ...onDevices];
  const verdicts: Verdict[] = [];
  let reported = 0;
  const work = async (bench: Workbench, queue: Mutant[]): Promise<void> => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      verdicts[ordered.indexOf(mutant)] = await tryMutant(bench, mutant, passing);
      for (let next = verdicts[reported]; next !== undefined; next = verdicts[reported]) {
        report(next);
        reported += 1;
      }
    }
  };
  await Promise.all(benches.map((bench) => work(bench, inMemory)));
  await work(benches[0], onDevices);
  return verdicts;
}
