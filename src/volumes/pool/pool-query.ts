import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { KernelError, StuckError } from '../../host/errors.ts';
import type { Pool } from './pool.ts';
import { notAnsweringError } from './problem.ts';
import { poolAnswerTimeoutMs } from './thresholds.ts';

/** Runs a query on one pool. Throws `unavailable` with the name of the pool if its disk fails or does not answer in time. */
export type PoolQuery = <T>(pool: Pool, work: () => Promise<T>) => Promise<T>;

/**
 * Returns a function that queries pools for one call. Each query has a time limit, and a pool that has once failed to answer is not
 * queried again. A call that needs several pools, or many files of one pool, thus waits only once for a disk that hangs.
 */
export function makePoolQuery(timeoutMs: number = poolAnswerTimeoutMs): PoolQuery {
  const unanswered = new Map<Pool, VolumeError>();
  return async (pool, work) => {
    const earlier = unanswered.get(pool);
    if (earlier !== undefined) throw earlier;
    try {
      const answer = await pool.whileServed(() => withTimeout(work(), timeoutMs));
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

/** Queries all pools concurrently, and leaves out those that do not answer. If none answers, throws the first error. */
export async function queryEachPool<T>(
  pools: readonly Pool[],
  work: (pool: Pool) => Promise<T>,
): Promise<readonly { readonly pool: Pool; readonly answer: T }[]> {
  const query = makePoolQuery();
  const answers: { pool: Pool; answer: T }[] = [];
  let firstError: VolumeError | undefined;
  await Promise.all(
    pools.map(async (pool) => {
      try {
        answers.push({ pool, answer: await query(pool, () => work(pool)) });
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error;
        firstError ??= error;
      }
    }),
  );
  if (answers.length === 0 && firstError !== undefined) throw firstError;
  return answers;
}

/** Whether the error says that a pool is not served or does not answer. */
export function isUnavailable(error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.reason === 'unavailable';
}
