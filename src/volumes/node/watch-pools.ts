import { reloadAllSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import type { Lane } from '../engine/lanes.ts';
import type { Pool } from '../pool/pool.ts';
import { recoverSnapshots } from '../snapshot/recover.ts';
import { recoverEntries } from './recovery.ts';

/** How often pools are checked: a disk may be unmounted, or mounted again. */
const checkEveryMs = 5_000;
/** A disk that one call has been waiting for so long may hang, although it still answers from its caches. */
const suspectAfterMs = 60_000;

const laneOf = ({ name }: Pool): Lane => ({ kind: 'pool', id: name, pool: name });

/** Opens a pool and recovers what a crash left in it. A pool that cannot be opened says why (`Pool.problem`). */
export async function openPool(domain: Domain, pool: Pool): Promise<void> {
  await domain.inLane(laneOf(pool), async () => {
    if (!(await pool.open(() => recoverEntries(domain, pool)))) return;
    await recoverSnapshots(domain, pool);
    domain.guard.watch(pool);
  });
}

/**
 * Checks every pool again and again; one check at a time for each, since one that hangs must neither keep the other pools from
 * theirs nor pile up threads. Returns the function that ends it.
 */
export function watchPools(
  domain: Domain,
  longestWaitMs: (pool: string) => number = () => 0,
): () => void {
  const checking = new Set<Pool>();
  const timer = setInterval(() => {
    for (const pool of domain.pools.all) {
      if (checking.has(pool)) continue;
      checking.add(pool);
      if (longestWaitMs(pool.name) > suspectAfterMs) pool.suspect();
      checkPool(domain, pool)
        .catch((error: unknown) => {
          domain.log.error({ pool: pool.name, err: error }, 'checking a pool failed');
        })
        .finally(() => checking.delete(pool));
    }
  }, checkEveryMs);
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
  await domain.inLane(laneOf(pool), async () => {
    await pool.check();
    if (pool.isServed) domain.trash.retryFailed(pool);
    await reloadAllSetAside(domain, pool);
  });
}
