import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { KernelError, StuckError } from '../../host/errors.ts';
import type { Pool } from './pool.ts';
import { notAnswering } from './problem.ts';
import { poolAnswerTimeoutMs } from './thresholds.ts';

/** Asks one pool. Throws `unavailable` naming the pool when its disk does not answer, or cannot. */
export type AskPool = <T>(pool: Pool, question: () => Promise<T>) => Promise<T>;

/**
 * For one answer to one caller that follows from several pools, or from many files of a pool: every question is bounded, and
 * a pool whose disk has not answered once is not asked again.
 */
export function askingPools(timeoutMs: number = poolAnswerTimeoutMs): AskPool {
  const silent = new Map<Pool, VolumeError>();
  return async (pool, question) => {
    const before = silent.get(pool);
    if (before !== undefined) throw before;
    try {
      const answer = await pool.whileServed(() => withTimeout(question(), timeoutMs));
      if (answer !== timedOut) return answer;
    } catch (error) {
      if (error instanceof KernelError) {
        const why = `pool '${pool.name}': ${messageOf(error)}; check its disk`;
        throw new VolumeError('unavailable', why, { cause: error });
      }
      if (!(error instanceof StuckError)) throw error;
    }
    const silence = notAnswering(pool, timeoutMs);
    silent.set(pool, silence);
    throw silence;
  };
}

/** Asks every one of the pools, side by side. Those that do not answer are left out, unless none does: then it throws why. */
export async function askEach<T>(
  pools: readonly Pool[],
  question: (pool: Pool) => Promise<T>,
): Promise<readonly { readonly pool: Pool; readonly answer: T }[]> {
  const ask = askingPools();
  const answers: { pool: Pool; answer: T }[] = [];
  let refusal: VolumeError | undefined;
  await Promise.all(
    pools.map(async (pool) => {
      try {
        answers.push({ pool, answer: await ask(pool, () => question(pool)) });
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error;
        refusal ??= error;
      }
    }),
  );
  if (answers.length === 0 && refusal !== undefined) throw refusal;
  return answers;
}

/** That a pool is not served, or does not answer. */
export function isUnavailable(error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.reason === 'unavailable';
}
