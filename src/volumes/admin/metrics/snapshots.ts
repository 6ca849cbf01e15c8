import type { ObservedSnapshots } from '../../../observe/metrics/observed.ts';
import type { Pool } from '../../pool/pool.ts';
import type { MeasuredFacts } from '../../pool/space.ts';

/** A pool with its space, which is undefined if the pool is not served or its disk does not answer. */
export interface MeasuredPool {
  readonly pool: Pool;
  readonly facts: MeasuredFacts | undefined;
}

/** Sums up the snapshots of all pools by their source. */
export function snapshotsByVolume(
  measured: readonly MeasuredPool[],
): ReadonlyMap<string, ObservedSnapshots> {
  const all = new Map<string, ObservedSnapshots>();
  for (const { pool, facts } of measured) {
    if (facts === undefined) continue;
    for (const { id, sourceVolumeId, state, createdAtMs } of pool.snapshots.values()) {
      const { count, allocatedBytes, newestAtMs } = all.get(sourceVolumeId) ?? none;
      all.set(sourceVolumeId, {
        count: count + 1,
        allocatedBytes: allocatedBytes + (facts.allocatedById.get(`snapshot ${id}`) ?? 0n),
        newestAtMs: state === 'ready' ? Math.max(newestAtMs ?? 0, createdAtMs) : newestAtMs,
      });
    }
  }
  return all;
}

const none: ObservedSnapshots = { count: 0, allocatedBytes: 0n, newestAtMs: undefined };
