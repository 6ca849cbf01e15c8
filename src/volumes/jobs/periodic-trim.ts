import { callPeriodically, settleAll } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { inLane } from '../engine/lanes.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';
import { findMountedThinVolumes } from './mounted-thin-volumes.ts';
import type { TrimClock } from './trim-clock.ts';
import type { Trims } from './trims.ts';

const firstCheckMs = 60_000;
const checkIntervalMs = 600_000;

/** The parts of the domain that periodic trimming needs. */
interface PeriodicTrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly pools: Pools;
  readonly trims: Trims;
  readonly trimClock: TrimClock;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Trims each mounted volume with `trim: periodic` once a day, one at a time in each pool, to return freed blocks to the pool (FITRIM). Returns a
 * function that stops it.
 */
export function trimPeriodically(deps: PeriodicTrimDeps): () => void {
  const trim = async (): Promise<number> => {
    try {
      await trimDueVolumes(deps);
    } catch (error) {
      deps.log.warn({ problem: messageOf(error) }, 'volumes to trim could not be determined');
    }
    return checkIntervalMs;
  };
  return callPeriodically(trim, firstCheckMs);
}

/** Trims the volumes that are due: those whose last trim, or creation, was a day ago by the clock. */
export async function trimDueVolumes(deps: PeriodicTrimDeps): Promise<void> {
  // Concurrently, so that a disk that hangs does not stop the trims of other pools.
  await settleAll(
    deps.pools.served.map((pool) =>
      trimDueVolumesOf(inLane(deps, { kind: 'trim', id: pool.name, pool: pool.name }), pool),
    ),
  );
}

async function trimDueVolumesOf(deps: PeriodicTrimDeps, pool: Pool): Promise<void> {
  const mounts = await deps.host.mounts.list();
  for (const one of await findMountedThinVolumes(deps.host, pool, mounts)) {
    if (one.record.trim !== 'periodic') continue;
    if (!(await deps.trimClock.isDue(deps, pool, one))) continue;
    const { result } = await deps.trims.trim(pool, one, 'periodic');
    // A trim that was interrupted by a call is still due.
    if (result !== 'interrupted') await deps.trimClock.record(deps, pool, one);
  }
}
