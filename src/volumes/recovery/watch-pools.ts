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
  const checking = new Set<Pool>();
  const timer = setInterval(() => {
    for (const pool of domain.pools.all) {
      if (checking.has(pool)) continue;
      checking.add(pool);
      if (maxWaitMs(pool.name) > suspectWaitMs) pool.requestWriteProbe();
      checkPool(domain, pool)
        .catch((error: unknown) => {
          domain.log.error({ pool: pool.name, err: error }, 'the check of a pool failed');
        })
        .finally(() => checking.delete(pool));
    }
  }, poolCheckIntervalMs);
  timer.unref();
  return () => {
    clearInterval(timer);
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
