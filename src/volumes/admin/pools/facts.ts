import { VolumeError } from '../../../errors.ts';
import type { PoolMarker } from '../../../state/records.ts';
import type { PoolAbilities } from '../../pool/open-directory.ts';
import type { Pool } from '../../pool/pool.ts';
import { makePoolQuery, type PoolQuery } from '../../pool/pool-query.ts';
import type { Pools } from '../../pool/pools.ts';
import type { PoolSettings } from '../../pool/settings.ts';
import { promisableBytesOf, type SpaceFacts } from '../../pool/space.ts';

export interface PoolFacts {
  readonly settings: PoolSettings;
  /** Whether the pool is in its own XFS image inside its directory. */
  readonly isEmbedded: boolean;
  /** Why the pool is not served or does not answer, and what to do; undefined if there is no problem. */
  readonly problem: string | undefined;
  /** Whether this run of the driver has read its records, so that its volumes and snapshots are known. */
  readonly wasRead: boolean;
  readonly marker: PoolMarker | undefined;
  readonly abilities: PoolAbilities | undefined;
  /** undefined if there is a problem. */
  readonly space: SpaceFacts | undefined;
  /** Bytes that the pool may still promise; never negative. */
  readonly capacityBytes: bigint;
  readonly volumeCount: number;
  readonly snapshotCount: number;
}

/** Returns the facts of all configured pools, served or not, sorted by name. */
export async function listPoolFacts(
  pools: Pools,
  query: PoolQuery = makePoolQuery(),
): Promise<readonly PoolFacts[]> {
  const sorted = [...pools.all].sort((a, b) => (a.name < b.name ? -1 : 1));
  return Promise.all(sorted.map((pool) => poolFactsOf(pool, query)));
}

/** Returns the configured pool of that name, served or not. Throws `not-found`. */
export function configuredPool(pools: Pools, name: string): Pool {
  const pool = pools.find(name);
  if (pool !== undefined) return pool;
  const names = pools.all.map((one) => one.name).join(', ');
  throw new VolumeError(
    'not-found',
    `the driver serves no pool '${name}'; its pools are ${names}; to add it, restart the driver with --pool ${name}=DIR`,
  );
}

/** Returns the facts of a pool. If its disk does not answer, `problem` says so. */
export async function poolFactsOf(
  pool: Pool,
  query: PoolQuery = makePoolQuery(),
): Promise<PoolFacts> {
  const space = pool.isServed ? await spaceOrProblem(pool, query) : undefined;
  if (space instanceof VolumeError) return factsOf(pool, space.message, undefined);
  const problem = pool.problem ?? `pool '${pool.name}' is being opened`;
  return factsOf(pool, space === undefined ? problem : undefined, space);
}

async function spaceOrProblem(pool: Pool, query: PoolQuery): Promise<SpaceFacts | VolumeError> {
  try {
    return await query(pool, () => pool.space.facts());
  } catch (error) {
    if (error instanceof VolumeError) return error;
    throw error;
  }
}

function factsOf(
  pool: Pool,
  problem: string | undefined,
  space: SpaceFacts | undefined,
): PoolFacts {
  const capacityBytes = space === undefined ? 0n : promisableBytesOf(space);
  return {
    settings: pool.settings,
    isEmbedded: pool.embeddedIn !== undefined || pool.settings.reflinkBytes !== undefined,
    problem,
    wasRead: pool.wasRead,
    marker: pool.marker,
    abilities: pool.abilities,
    space,
    capacityBytes: capacityBytes > 0n ? capacityBytes : 0n,
    volumeCount: pool.volumes.size + pool.ephemerals.size,
    snapshotCount: pool.snapshots.size,
  };
}
