import { isOnDevices, type Mutant } from './mutant.ts';
import type { TestRun } from './run-tests.ts';
import type { Workbench } from './workbench.ts';

/** What became of a defect. Only `caught`, and `hung` where the row says so, are as they must be. */
export type Outcome = 'caught' | 'hung' | 'survived' | 'broken' | 'stale';

export interface Verdict {
  readonly mutant: Mutant;
  readonly outcome: Outcome;
  /** The test that saw it, or what was wrong instead. */
  readonly by: string;
  readonly seconds: number;
}

export function isRight({ mutant, outcome }: Verdict): boolean {
  return outcome === 'caught' || (outcome === 'hung' && mutant.mayHang === true);
}

/** What tests take at most with a defect in the driver; without one it is seconds. */
function boundMsOf({ red }: Mutant): number {
  return red.some(isOnDevices) ? 5 * 60_000 : 90_000;
}

/** Runs the tests with that defect. `titles` are those of tests that pass without it: only one of them can see it. */
export async function tryMutant(
  bench: Workbench,
  mutant: Mutant,
  titles: ReadonlySet<string>,
): Promise<Verdict> {
  try {
    return { mutant, ...judged(await bench.try(mutant, boundMsOf(mutant)), titles) };
  } catch (error) {
    const by = error instanceof Error ? error.message : String(error);
    return { mutant, outcome: 'stale', by, seconds: 0 };
  }
}

function judged(run: TestRun, titles: ReadonlySet<string>): Omit<Verdict, 'mutant'> {
  const { seconds } = run;
  const seenBy = run.failed.find((title) => titles.has(title));
  if (seenBy !== undefined) return { outcome: 'caught', by: seenBy, seconds };
  if (run.isHung) return { outcome: 'hung', by: 'ended at the bound of its time', seconds };
  if (run.failed.length === 0 && run.passed.size > 0 && run.exitCode === 0) {
    return { outcome: 'survived', by: `${run.passed.size} tests passed`, seconds };
  }
  // A module that does not load fails no test: it ends all of them.
  return { outcome: 'broken', by: `no test failed, but the run did:\n${run.tail}`, seconds };
}
