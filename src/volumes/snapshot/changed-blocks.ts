import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { maxComparedBytes } from '../../host/files/compare-blocks.ts';
import { differences, isSameMap, isUnwritten, windowOf } from '../../host/files/extent-delta.ts';
import type { Extent } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { BlockRange, BlockRanges } from '../model.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { alignedBatches, blockStart, mergeRanges, metadataBlockBytes } from './block-ranges.ts';

/** How often a stretch of a map is read again when it moved in between: a balance of the pool's filesystem, for example. */
const mapAttempts = 10;

/** CSI spec, GetMetadataAllocated: data extents, of the snapshot's map where the pool has one. */
export async function allocatedRanges(
  domain: Domain,
  call: Call,
  asked: { snapshotId: string; startingOffset: bigint; batchSize: number },
): Promise<BlockRanges> {
  const { snapshotId, batchSize } = asked;
  const found = readySnapshot(domain, snapshotId);
  const from = requireOffset(found, asked.startingOffset);
  const end = found.record.sizeBytes;
  const held = { rpc: 'GetMetadataAllocated', snapshots: [found] };
  const batches = whileLocked(domain, held, () => {
    const { imagePath } = readySnapshot(domain, snapshotId);
    const data = dataRanges(domain, imagePath, { from, owner: `metadata ${snapshotId}` });
    return alignedBatches(untilCancelled(call, data), { from, end, batchSize });
  });
  return { volumeBytes: end, batches };
}

/**
 * CSI spec, GetMetadataDelta. Within one pool with reflink it follows from the extent maps alone; elsewhere what holds data in
 * either is read and compared.
 */
export async function changedRanges(
  domain: Domain,
  call: Call,
  asked: {
    baseSnapshotId: string;
    targetSnapshotId: string;
    startingOffset: bigint;
    batchSize: number;
  },
): Promise<BlockRanges> {
  const { baseSnapshotId, targetSnapshotId, batchSize } = asked;
  const base = readySnapshot(domain, baseSnapshotId);
  const target = readySnapshot(domain, targetSnapshotId);
  if (base.record.sourceVolumeId !== target.record.sourceVolumeId) {
    throw new VolumeError(
      'invalid',
      `snapshots '${baseSnapshotId}' and '${targetSnapshotId}' are of two volumes, '${base.record.sourceVolumeId}' and '${target.record.sourceVolumeId}'; only snapshots of one can be compared`,
    );
  }
  const from = requireOffset(target, asked.startingOffset);
  const end = target.record.sizeBytes;
  const held = { rpc: 'GetMetadataDelta', snapshots: [base, target] };
  const batches = whileLocked(domain, held, () => {
    const pair = {
      a: readySnapshot(domain, baseSnapshotId).imagePath,
      b: readySnapshot(domain, targetSnapshotId).imagePath,
      owner: `metadata ${targetSnapshotId}`,
    };
    const byMaps = base.pool === target.pool && base.pool.abilities?.reflink === true;
    const changed = byMaps
      ? changedByMaps(domain, call, { ...pair, from, end })
      : changedByContent(domain, call, { ...pair, from, end });
    return alignedBatches(changed, { from, end, batchSize });
  });
  return { volumeBytes: end, batches };
}

function readySnapshot(domain: Domain, snapshotId: string): FoundSnapshot {
  const found = domain.pools.getSnapshot(snapshotId);
  found.pool.requireServed();
  if (found.record.state === 'ready') return found;
  throw new VolumeError(
    'unavailable',
    `snapshot '${snapshotId}' is still being copied; ask again when it is ready to use`,
  );
}

/** Where the answer begins: the block that holds the offset. The volume's end is allowed, and nothing follows it. */
function requireOffset({ record }: FoundSnapshot, startingOffset: bigint): bigint {
  if (startingOffset >= 0n && startingOffset <= record.sizeBytes) return blockStart(startingOffset);
  throw new VolumeError(
    'out-of-range',
    `starting_offset ${startingOffset} lies outside the volume, which snapshot '${record.id}' shows with ${record.sizeBytes} bytes`,
  );
}

/** Holds the snapshots against deletion for as long as the answer is being read. */
async function* whileLocked(
  domain: Domain,
  { rpc, snapshots }: { rpc: string; snapshots: readonly FoundSnapshot[] },
  read: () => AsyncIterable<readonly BlockRange[]>,
): AsyncGenerator<readonly BlockRange[]> {
  const ids = snapshots.map(({ record }) => record.id);
  const shared = ids.map((id) => `snapshot:${id}`);
  const release = domain.operations.locks.take({ shared }, rpc);
  try {
    yield* read();
  } catch (error) {
    const [pool, ...others] = new Set(snapshots.map((one) => one.pool));
    const what = ids.map((id) => `snapshot '${id}'`).join(' and ');
    throw await toVolumeError(error, what, others.length === 0 ? pool : undefined);
  } finally {
    release();
  }
}

async function* untilCancelled<T>(call: Call, values: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const value of values) {
    requireNotCancelled(call);
    yield value;
  }
}

function requireNotCancelled(call: Call): void {
  if (call.signal.aborted) throw new VolumeError('cancelled', 'the caller has gone');
}

/** What of an image is data: from its extent map, or by SEEK_DATA where the filesystem has no maps. */
async function* dataRanges(
  domain: Domain,
  path: string,
  options: { from: bigint; owner: string },
): AsyncGenerator<BlockRange> {
  const { from, owner } = options;
  const { extents } = domain.host;
  let begun = false;
  try {
    for await (const batch of iterateInLane(domain, owner, extents.map(path, { from }))) {
      begun = true;
      for (const extent of batch) {
        if (!isUnwritten(extent)) yield { offset: extent.logical, length: extent.length };
      }
    }
  } catch (error) {
    if (begun || !hasErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
    yield* iterateInLane(domain, owner, extents.data(path, { from }));
  }
}

/** Each step of the iteration counts as its owner's kernel call, wherever it is taken from. */
async function* iterateInLane<T>(
  domain: Domain,
  owner: string,
  values: AsyncIterable<T>,
): AsyncGenerator<T> {
  const iterator = values[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await domain.ownedBy(owner, () => iterator.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await domain.ownedBy(owner, async () => iterator.return?.());
  }
}

interface Pair {
  readonly a: string;
  readonly b: string;
  readonly owner: string;
  readonly from: bigint;
  readonly end: bigint;
}

/** Compares the maps stretch by stretch, so that neither has to be held whole. */
async function* changedByMaps(domain: Domain, call: Call, pair: Pair): AsyncGenerator<BlockRange> {
  let at = pair.from;
  while (at < pair.end) {
    requireNotCancelled(call);
    const stretch = await domain.ownedBy(pair.owner, () => compareStretch(domain, pair, at));
    yield* stretch.changed;
    at = stretch.to;
  }
}

/**
 * As far as one batch of each map reaches. The first map is read again after the second: only when it is the same, both held
 * at one moment, so that equal addresses mean one block.
 */
async function compareStretch(
  domain: Domain,
  pair: Pair,
  from: bigint,
): Promise<{ changed: readonly BlockRange[]; to: bigint }> {
  for (let attempt = 0; attempt < mapAttempts; attempt += 1) {
    const a = windowOf(await firstBatch(domain, pair.a, from), pair.end);
    const b = windowOf(await firstBatch(domain, pair.b, from), pair.end);
    const again = windowOf(await firstBatch(domain, pair.a, from), pair.end);
    const to = a.to < b.to ? a.to : b.to;
    if (isSameMap(a, again, to)) {
      return { changed: differences(a.extents, b.extents, { from, to }), to };
    }
  }
  throw new VolumeError(
    'unavailable',
    `the blocks of ${pair.a} are being moved, by a balance or defragmentation of the pool's filesystem; ask again when that has ended`,
  );
}

async function firstBatch(domain: Domain, path: string, from: bigint): Promise<readonly Extent[]> {
  for await (const batch of domain.host.extents.map(path, { from })) return batch;
  return [];
}

/** Reads what is data in either, and answers the blocks that differ. */
async function* changedByContent(
  domain: Domain,
  call: Call,
  pair: Pair,
): AsyncGenerator<BlockRange> {
  const { a, b, owner, from, end } = pair;
  const either = mergeRanges(
    dataRanges(domain, a, { from, owner }),
    dataRanges(domain, b, { from, owner }),
  );
  const batches = alignedBatches(either, { from, end, batchSize: 1 });
  for await (const [range] of batches) {
    if (range === undefined) continue;
    const stop = range.offset + range.length;
    for (let offset = range.offset; offset < stop; offset += maxComparedBytes) {
      requireNotCancelled(call);
      const left = stop - offset;
      const length = left < maxComparedBytes ? left : maxComparedBytes;
      yield* await domain.ownedBy(owner, () =>
        domain.host.extents.compare(a, b, { offset, length, blockBytes: metadataBlockBytes }),
      );
    }
  }
}
