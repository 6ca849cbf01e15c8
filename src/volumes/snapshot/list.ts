import { VolumeError } from '../../errors.ts';
import { parseSnapshotId, type SnapshotId } from '../../ids.ts';
import type { SnapshotRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { Page, Snapshot, SnapshotFilter, SnapshotProgress } from '../model.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';
import { pageOf } from '../pool/record-index.ts';

/** Throws `not-found` if the snapshot does not exist. */
export function getSnapshot(pools: Pools, snapshotId: string): Snapshot {
  const { record, pool } = pools.getSnapshot(snapshotId);
  return { record, pool: pool.name };
}

/**
 * CSI spec, ListSnapshots: returns the snapshots of all pools, sorted by id. A filter with an unknown id gives an empty page, but
 * only if every pool is served: callers take it for a snapshot that is gone. Throws `unavailable` otherwise, and for other lists
 * if a pool that they cover was never read since the driver started, because CSI cannot mark a list as incomplete.
 */
export function listSnapshots(
  pools: Pools,
  request: SnapshotFilter & { maxEntries: number; startingToken: string },
): Page<Snapshot> {
  const { maxEntries, startingToken, snapshotId } = request;
  const covered = pools.all.filter(({ name }) => matches(request.pool, name));
  if (snapshotId !== undefined) requireFindable(pools, snapshotId);
  else for (const pool of covered) pool.requireRead();
  const entries = covered
    .flatMap((pool) => recordsOf(pool, request).map((record) => ({ record, pool: pool.name })))
    .sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  return pageOf(entries, { maxEntries, startingToken, idOf: ({ record }) => record.id });
}

/** Throws `unavailable` if the snapshot may be in a pool that is not served. */
function requireFindable(pools: Pools, snapshotId: string): void {
  const isPossible = parseSnapshotId(snapshotId) !== undefined;
  const isFound = pools.all.some((pool) => snapshotWithId(pool, snapshotId).length > 0);
  if (isPossible && !isFound) pools.requireAllServed();
}

function recordsOf(pool: Pool, request: SnapshotFilter): readonly SnapshotRecord[] {
  const { snapshotId, sourceVolumeId } = request;
  const records =
    snapshotId === undefined ? pool.snapshots.sorted() : snapshotWithId(pool, snapshotId);
  return records.filter((record) => matches(sourceVolumeId, record.sourceVolumeId));
}

function snapshotWithId({ snapshots }: Pool, snapshotId: string): readonly SnapshotRecord[] {
  const id = parseSnapshotId(snapshotId);
  const record = id === undefined ? undefined : snapshots.get(id);
  return record === undefined ? [] : [record];
}

function matches(wanted: string | undefined, actual: string): boolean {
  return wanted === undefined || wanted === actual;
}

/** Progress of the snapshot's copy. Throws `not-found`. */
function snapshotProgress(domain: Domain, snapshotId: SnapshotId): SnapshotProgress {
  return domain.snapshotCopies.progressOf(domain.pools.getSnapshot(snapshotId).record);
}

/** Yields the current progress and then every change, until the snapshot is ready, or its copy has failed and it was removed. */
export async function* watchSnapshot(
  domain: Domain,
  call: Call,
  snapshotId: string,
): AsyncIterable<SnapshotProgress> {
  const { id } = domain.pools.getSnapshot(snapshotId).record;
  let count = domain.snapshotCopies.progressCount;
  let last = snapshotProgress(domain, id);
  yield last;
  while (!last.ready && last.error === '') {
    // `count` was read before the progress, so a change while the caller was busy is not missed.
    await domain.snapshotCopies.progressSince(count, call.signal);
    if (call.signal.aborted) throw new VolumeError('cancelled', 'the caller cancelled the request');
    count = domain.snapshotCopies.progressCount;
    const next = progressOrFailure(domain, id, last);
    if (next.doneBytes === last.doneBytes && !next.ready && next.error === '') continue;
    last = next;
    yield last;
  }
}

function progressOrFailure(
  domain: Domain,
  snapshotId: SnapshotId,
  last: SnapshotProgress,
): SnapshotProgress {
  const error = domain.snapshotCopies.failureOf(snapshotId);
  if (error !== undefined) return { ...last, error };
  try {
    return snapshotProgress(domain, snapshotId);
  } catch (cause) {
    if (cause instanceof VolumeError && cause.reason === 'not-found') {
      return { ...last, error: `snapshot '${snapshotId}' was deleted` };
    }
    throw cause;
  }
}
