import type { Domain } from '../../domain.ts';
import type { TrimCounts } from '../../jobs/trims.ts';
import type { Pool } from '../../pool/pool.ts';
import { makePoolQuery, type PoolQuery } from '../../pool/pool-query.ts';
import { type MeasuredFacts, promisableBytesOf, type SpaceFacts } from '../../pool/space.ts';

/** The metrics of one pool. `bytes` is empty if its disk does not answer. */
export interface PoolMetrics {
  readonly name: string;
  readonly isServed: boolean;
  readonly bytes: Readonly<Record<string, bigint>>;
  readonly freeInodes: bigint | undefined;
  /** Volumes that the guard has frozen. */
  readonly frozenVolumes: number;
  readonly trims: TrimCounts;
  readonly volumes: Readonly<Record<string, number>>;
  /** One entry per volume, at most `maxImages`; empty if `bytes` is empty. */
  readonly images: readonly ImageMetrics[];
}

export interface ImageMetrics {
  readonly volumeId: string;
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
}

/** Limits the number of metric labels. The sums in `bytes` include all volumes. */
export const maxImages = 1_000;

/** Measures every pool. The `bytes` of a pool are empty if its filesystem does not answer within the time limit. */
export async function measurePools(
  domain: Domain,
  timeoutMs: number,
): Promise<readonly PoolMetrics[]> {
  const query = makePoolQuery(timeoutMs);
  return Promise.all(
    domain.pools.all.map(async (pool) => {
      const { name, isServed } = pool;
      const frozenVolumes = domain.guard.frozenIn(pool);
      const facts = isServed ? await factsOf(pool, query) : undefined;
      return {
        name,
        isServed,
        frozenVolumes,
        trims: domain.trims.countsOf(pool),
        bytes: facts === undefined ? {} : bytesOf(facts),
        freeInodes: facts?.freeInodes,
        volumes: isServed ? volumesOf(pool) : {},
        images: facts === undefined ? [] : imagesOf(pool, facts),
      };
    }),
  );
}

/** Returns undefined if the pool's disk fails or does not answer in time. */
async function factsOf(pool: Pool, query: PoolQuery): Promise<MeasuredFacts | undefined> {
  return query(pool, () => pool.space.facts()).catch(() => undefined);
}

function bytesOf(facts: SpaceFacts): Readonly<Record<string, bigint>> {
  const bytes = promisableBytesOf(facts);
  return {
    total: facts.totalBytes,
    free: facts.freeBytes,
    reserve: facts.reserveBytes,
    promised: facts.promisedBytes,
    allocated: facts.allocatedBytes,
    snapshots: facts.snapshotBytes,
    trash: facts.trashBytes,
    watermark: facts.watermarkBytes,
    room: bytes < 0n ? 0n : bytes,
  };
}

function volumesOf(pool: Pool): Readonly<Record<string, number>> {
  const counts = { ext4: 0, xfs: 0, btrfs: 0, block: 0 };
  for (const { fsType } of pool.volumes.values()) counts[fsType ?? 'block'] += 1;
  return { ...counts, ephemeral: pool.ephemerals.size, snapshots: pool.snapshots.size };
}

function imagesOf(pool: Pool, { allocatedById }: MeasuredFacts): readonly ImageMetrics[] {
  const records = [...pool.volumes.values()].slice(0, maxImages);
  return records.map(({ id, sizeBytes }) => {
    return { volumeId: id, sizeBytes, allocatedBytes: allocatedById.get(id) ?? 0n };
  });
}
