import { VolumeError } from '../../../errors.ts';
import type { PoolMarker } from '../../../state/records.ts';
import type { Domain } from '../../domain.ts';
import { type AskPool, askingPools } from '../../pool/ask-pools.ts';
import type { PoolAbilities } from '../../pool/open-directory.ts';
import type { Pool } from '../../pool/pool.ts';
import type { PoolSettings } from '../../pool/settings.ts';
import { promisableBytesOf, type SpaceFacts } from '../../pool/space.ts';

export interface PoolFacts {
  readonly settings: PoolSettings;
  /** It lies in an image of its own inside its directory. */
  readonly isEmbedded: boolean;
  /** Why it is not served, or does not answer, and what to do; undefined when it is. */
  readonly problem: string | undefined;
  readonly marker: PoolMarker | undefined;
  readonly abilities: PoolAbilities | undefined;
  /** undefined while there is a problem. */
  readonly space: SpaceFacts | undefined;
  /** What may still be promised, never negative. */
  readonly roomBytes: bigint;
  readonly volumeCount: number;
  readonly snapshotCount: number;
}

/** All configured pools, served or not, by name. */
export async function listPoolFacts(
  domain: Domain,
  ask: AskPool = askingPools(),
): Promise<readonly PoolFacts[]> {
  const pools = [...domain.pools.all].sort((a, b) => (a.name < b.name ? -1 : 1));
  return Promise.all(pools.map((pool) => poolFactsOf(pool, ask)));
}

/** The configured pool of that name, served or not. Throws `not-found`. */
export function configuredPool(domain: Domain, name: string): Pool {
  const pool = domain.pools.all.find((one) => one.name === name);
  if (pool !== undefined) return pool;
  const names = domain.pools.all.map((one) => one.name).join(', ');
  throw new VolumeError(
    'not-found',
    `the driver serves no pool '${name}'; its pools are ${names}; start it with --pool ${name}=DIR`,
  );
}

/** One whose disk does not answer is told with that as its problem. */
export async function poolFactsOf(pool: Pool, ask: AskPool = askingPools()): Promise<PoolFacts> {
  const space = pool.isServed ? await spaceOrProblem(pool, ask) : undefined;
  if (space instanceof VolumeError) return factsOf(pool, space.message, undefined);
  const problem = pool.problem ?? `pool '${pool.name}' is being opened`;
  return factsOf(pool, space === undefined ? problem : undefined, space);
}

async function spaceOrProblem(pool: Pool, ask: AskPool): Promise<SpaceFacts | VolumeError> {
  try {
    return await ask(pool, () => pool.space.facts());
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
  const roomBytes = space === undefined ? 0n : promisableBytesOf(space);
  return {
    settings: pool.settings,
    isEmbedded: pool.embeddedIn !== undefined || pool.settings.reflinkBytes !== undefined,
    problem,
    marker: pool.marker,
    abilities: pool.abilities,
    space,
    roomBytes: roomBytes > 0n ? roomBytes : 0n,
    volumeCount: pool.volumes.size + pool.ephemerals.size,
    snapshotCount: pool.snapshots.size,
  };
}
