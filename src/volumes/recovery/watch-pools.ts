import { callPeriodically } from '../../async.ts';
import { reloadAllSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { inLane, poolLane } from '../engine/lanes.ts';
import type { Pool } from '../pool/pool.ts';
import { poolCheckIntervalMs, suspectWaitMs } from '../pool/thresholds.ts';
import { recoverSnapshots } from '../snapshot/recover.ts';
import { recoverEntries } from './recover-entries.ts';

/** Opens a pool and recovers its entries. If the pool cannot be opened, `Pool.problem` says why. */
export async function openPool(domain: Domain, pool: Pool): Promise<void> {
  const deps = inLane(domain, poolLane(pool.name));
  if (!(await pool.open(() => recoverEntries(deps, pool)))) return;
  await recoverSnapshots(deps, pool);
  domain.guard.watch(pool);
}

/**
 * Checks every pool periodically. Each pool has at most one check at a time, so that a check that hangs neither delays the checks
 * of other pools nor occupies more and more threads. Returns a function that stops the checks.
 */
export function watchPools(
  domain: Domain,
  maxWaitMs: (pool: string) => number = () => 0,
): () => void {
  const check = async (pool: Pool): Promise<number> => {
    if (maxWaitMs(pool.name) > suspectWaitMs) pool.requestWriteProbe();
    try {
      await checkPool(domain, pool);
    } catch (error) {
      domain.log.error({ pool: pool.name, err: error }, 'the check of a pool failed');
    }
    return poolCheckIntervalMs;
  };
  const ends = domain.pools.all.map((pool) =>
    callPeriodically(() => check(pool), poolCheckIntervalMs),
  );
  return () => {
    for (const end of ends) end();
  };
}

async function checkPool(domain: Domain, pool: Pool): Promise<void> {
  if (!pool.isOpen) {
    await openPool(domain, pool);
    return;
  }
  await pool.check();
  if (pool.isServed) domain.trash.retryFailed(pool);
  await reloadAllSetAside(inLane(domain, poolLane(pool.name)), pool);
}
