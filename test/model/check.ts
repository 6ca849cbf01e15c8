/** Number of runs, seed and failure message of a model check. */
import type { Parameters, RunDetails } from 'fast-check';

const variable = (name: string): number | undefined => {
  const text = process.env[`LOOPCSI_MODEL_${name}`];
  return text === undefined || text === '' ? undefined : Number(text);
};

/** Fixed for regular test runs, so that a new failure comes from a change. A search for other failures uses a random seed. */
const everyRunSeed = 1;

/** With LOOPCSI_MODEL_RUNS, makes that number of runs within an hour; else ends the check at `limitMs`. */
export function checkOptions<T>({ runs, limitMs }: { runs: number; limitMs: number }): {
  readonly parameters: Parameters<T>;
  readonly timeoutMs: number;
} {
  const asked = variable('RUNS');
  const seed = variable('SEED') ?? (asked === undefined ? everyRunSeed : undefined);
  const path = process.env['LOOPCSI_MODEL_PATH'];
  const boundMs = asked === undefined ? limitMs : 60 * 60_000;
  return {
    parameters: {
      numRuns: asked ?? runs,
      interruptAfterTimeLimit: boundMs,
      markInterruptAsFailure: false,
      ...(seed === undefined ? {} : { seed }),
      ...(path === undefined ? {} : { path }),
    },
    timeoutMs: boundMs * 3,
  };
}

/** The failure of a check, with the variables that reproduce it. `problems` contains the problems of its runs; the smallest is last. */
export function failureOf<T>(
  { seed, counterexamplePath, counterexample, errorInstance }: RunDetails<T>,
  problems: readonly string[],
): string {
  const thrown = errorInstance instanceof Error ? String(errorInstance.stack) : '';
  const replay = `LOOPCSI_MODEL_SEED=${seed} LOOPCSI_MODEL_PATH='${counterexamplePath ?? ''}'`;
  return [problems.at(-1) ?? '', thrown, replay, JSON.stringify(counterexample)].join('\n');
}
