import type { Domain } from '../domain.ts';
import type { Pool } from './pool.ts';
import { type RoomFacts, roomOf } from './room.ts';

/** A pool in numbers, for metrics. `bytes` is empty while they cannot be had. */
export interface PoolMeasures {
  readonly name: string;
  readonly isServed: boolean;
  readonly bytes: Readonly<Record<string, bigint>>;
  readonly volumes: Readonly<Record<string, number>>;
}

/** Every pool; one whose filesystem does not answer within the bound is told without bytes. */
export async function measurePools(
  domain: Domain,
  boundMs: number,
): Promise<readonly PoolMeasures[]> {
  return Promise.all(
    domain.pools.all.map(async (pool) => {
      const { name, isServed } = pool;
      if (!isServed) return { name, isServed, bytes: {}, volumes: {} };
      return { name, isServed, bytes: await bytesOf(pool, boundMs), volumes: volumesOf(pool) };
    }),
  );
}

/** The facts of its room; undefined when its filesystem does not answer within the bound, or cannot. */
export async function factsSoon(pool: Pool, boundMs: number): Promise<RoomFacts | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, boundMs, undefined);
  });
  try {
    return await Promise.race([pool.room.facts().catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function bytesOf(pool: Pool, boundMs: number): Promise<Readonly<Record<string, bigint>>> {
  const facts = await factsSoon(pool, boundMs);
  if (facts === undefined) return {};
  const room = roomOf(facts);
  return {
    total: facts.totalBytes,
    free: facts.freeBytes,
    reserve: facts.reserveBytes,
    promised: facts.promisedBytes,
    allocated: facts.allocatedBytes,
    snapshots: facts.snapshotBytes,
    trash: facts.trashBytes,
    room: room < 0n ? 0n : room,
  };
}

function volumesOf(pool: Pool): Readonly<Record<string, number>> {
  const counts = { ext4: 0, xfs: 0, btrfs: 0, block: 0 };
  for (const { fsType } of pool.volumes.values()) counts[fsType ?? 'block'] += 1;
  return { ...counts, ephemeral: pool.ephemerals.size, snapshots: pool.snapshots.size };
}
