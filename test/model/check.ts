/** How often the model is run, with which seed, and what a failure says. */
import type { Parameters, RunDetails } from 'fast-check';

const variable = (name: string): number | undefined => {
  const text = process.env[`LOOPCSI_MODEL_${name}`];
  return text === undefined || text === '' ? undefined : Number(text);
};

/** Of the runs that every test makes: a failure there is new, and of what has changed. A search for others has a fresh seed. */
const everyRunSeed = 1;

/** A number of runs that is asked for is a search, made in full, within an hour; without one the check ends at the limit. */
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

/** What a check found, with all that is needed to see it again. `problems` are those of its runs, the smallest last. */
export function failureOf<T>(
  { seed, counterexamplePath, counterexample, errorInstance }: RunDetails<T>,
  problems: readonly string[],
): string {
  const thrown = errorInstance instanceof Error ? String(errorInstance.stack) : '';
  const replay = `LOOPCSI_MODEL_SEED=${seed} LOOPCSI_MODEL_PATH='${counterexamplePath ?? ''}'`;
  return [problems.at(-1) ?? '', thrown, replay, JSON.stringify(counterexample)].join('\n');
}
