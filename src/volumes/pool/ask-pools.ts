import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { KernelError, StuckError } from '../../host/errors.ts';
import type { Pool } from './pool.ts';
import { notAnsweringError } from './problem.ts';
import { poolAnswerTimeoutMs } from './thresholds.ts';

/** Asks one pool. Throws `unavailable` with the pool's name if its disk does not answer or fails. */
export type AskPool = <T>(pool: Pool, question: () => Promise<T>) => Promise<T>;

/**
 * For a result that needs several pools, or many files of a pool: every question has a time limit, and a pool whose disk has not
 * answered once is not asked again.
 */
export function makeAskPool(timeoutMs: number = poolAnswerTimeoutMs): AskPool {
  const unanswered = new Map<Pool, VolumeError>();
  return async (pool, question) => {
    const earlier = unanswered.get(pool);
    if (earlier !== undefined) throw earlier;
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
    const problem = notAnsweringError(pool, timeoutMs);
    unanswered.set(pool, problem);
    throw problem;
  };
}

/** Asks all pools concurrently. Pools that do not answer are left out. If none answers, throws the first error. */
export async function askEach<T>(
  pools: readonly Pool[],
  question: (pool: Pool) => Promise<T>,
): Promise<readonly { readonly pool: Pool; readonly answer: T }[]> {
  const ask = makeAskPool();
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

/** Whether the error says that a pool is not served or does not answer. */
export function isUnavailable(error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.reason === 'unavailable';
}
