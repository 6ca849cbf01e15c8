import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { maxComparedBytes } from '../../host/files/compare-blocks.ts';
import { differences, isSameMap, isUnwritten, windowOf } from '../../host/files/extent-delta.ts';
import type { Extent } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import type { Lane } from '../engine/lanes.ts';
import type { Call } from '../engine/operations.ts';
import type { BlockRange, BlockRanges } from '../model.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { alignedBatches, blockStart, mergeRanges, metadataBlockBytes } from './block-ranges.ts';

/** How often part of an extent map is read again if blocks were moved meanwhile, for example by a btrfs balance. */
const maxMapAttempts = 10;

/** CSI spec, GetMetadataAllocated: the snapshot's data, from its extent map where the pool's filesystem has one. */
export async function allocatedRanges(
  domain: Domain,
  call: Call,
  request: { snapshotId: string; startingOffset: bigint; batchSize: number },
): Promise<BlockRanges> {
  const { snapshotId, batchSize } = request;
  const found = readySnapshot(domain, snapshotId);
  const from = requireOffset(found, request.startingOffset);
  const end = found.record.sizeBytes;
  const locked = { rpc: 'GetMetadataAllocated', snapshots: [found] };
  const batches = whileLocked(domain, locked, () => {
    const { imagePath } = readySnapshot(domain, snapshotId);
    const data = dataRanges(domain, imagePath, { from, lane: laneOf(found) });
    return alignedBatches(untilCancelled(call, data), { from, end, batchSize });
  });
  return { volumeBytes: end, batches };
}

/**
 * CSI spec, GetMetadataDelta. Within one pool with reflink, the extent maps alone give the answer. Otherwise the data of both
 * snapshots is read and compared.
 */
export async function changedRanges(
  domain: Domain,
  call: Call,
  request: {
    baseSnapshotId: string;
    targetSnapshotId: string;
    startingOffset: bigint;
    batchSize: number;
  },
): Promise<BlockRanges> {
  const { baseSnapshotId, targetSnapshotId, batchSize } = request;
  const base = readySnapshot(domain, baseSnapshotId);
  const target = readySnapshot(domain, targetSnapshotId);
  if (base.record.sourceVolumeId !== target.record.sourceVolumeId) {
    throw new VolumeError(
      'invalid',
      `snapshots '${baseSnapshotId}' and '${targetSnapshotId}' are of different volumes, '${base.record.sourceVolumeId}' and '${target.record.sourceVolumeId}'; compare snapshots of one volume`,
    );
  }
  const from = requireOffset(target, request.startingOffset);
  const end = target.record.sizeBytes;
  const locked = { rpc: 'GetMetadataDelta', snapshots: [base, target] };
  const batches = whileLocked(domain, locked, () => {
    const pair = {
      a: readySnapshot(domain, baseSnapshotId).imagePath,
      b: readySnapshot(domain, targetSnapshotId).imagePath,
      lane: laneOf(target),
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
    `snapshot '${snapshotId}' is still being copied; try again when it is ready to use`,
  );
}

/** The start of the block that contains the offset. The size of the volume is allowed, too; the answer is then empty. */
function requireOffset({ record }: FoundSnapshot, startingOffset: bigint): bigint {
  if (startingOffset >= 0n && startingOffset <= record.sizeBytes) return blockStart(startingOffset);
  throw new VolumeError(
    'out-of-range',
    `starting_offset ${startingOffset} is beyond the end of snapshot '${record.id}', which has ${record.sizeBytes} bytes`,
  );
}

/** Keeps the snapshots locked against deletion while the answer is read. */
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
  if (call.signal.aborted) throw new VolumeError('cancelled', 'the caller cancelled the request');
}

/** Ranges of an image with data: from its extent map, or by SEEK_DATA if the filesystem has no FIEMAP. */
async function* dataRanges(
  domain: Domain,
  path: string,
  options: { from: bigint; lane: Lane },
): AsyncGenerator<BlockRange> {
  const { from, lane } = options;
  const { extents } = domain.host;
  let hasBegun = false;
  try {
    for await (const batch of iterateInLane(domain, lane, extents.map(path, { from }))) {
      hasBegun = true;
      for (const extent of batch) {
        if (!isUnwritten(extent)) yield { offset: extent.logical, length: extent.length };
      }
    }
  } catch (error) {
    if (hasBegun || !hasErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
    yield* iterateInLane(domain, lane, extents.data(path, { from }));
  }
}

/** Runs each step of the iteration in `lane`, whichever lane the reader is in. */
async function* iterateInLane<T>(
  domain: Domain,
  lane: Lane,
  values: AsyncIterable<T>,
): AsyncGenerator<T> {
  const iterator = values[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await domain.inLane(lane, () => iterator.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await domain.inLane(lane, async () => iterator.return?.());
  }
}

interface Pair {
  readonly a: string;
  readonly b: string;
  readonly lane: Lane;
  readonly from: bigint;
  readonly end: bigint;
}

/** Compares the maps one batch at a time, so that neither has to fit into memory. */
async function* changedByMaps(domain: Domain, call: Call, pair: Pair): AsyncGenerator<BlockRange> {
  let at = pair.from;
  while (at < pair.end) {
    requireNotCancelled(call);
    const { changed, to } = await domain.inLane(pair.lane, () => compareBatch(domain, pair, at));
    yield* changed;
    at = to;
  }
}

/**
 * Compares as far as one batch of each map reaches. The first map is read again after the second: only if it is unchanged were
 * both valid at one moment, so that equal addresses mean the same block.
 */
async function compareBatch(
  domain: Domain,
  pair: Pair,
  from: bigint,
): Promise<{ changed: readonly BlockRange[]; to: bigint }> {
  for (let attempt = 0; attempt < maxMapAttempts; attempt += 1) {
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
    `the blocks of ${pair.a} are being moved by a balance or defragmentation of the pool's filesystem; try again when that has ended`,
  );
}

async function firstBatch(domain: Domain, path: string, from: bigint): Promise<readonly Extent[]> {
  for await (const batch of domain.host.extents.map(path, { from })) return batch;
  return [];
}

/** Reads what is data in either image, and yields the blocks that differ. */
async function* changedByContent(
  domain: Domain,
  call: Call,
  pair: Pair,
): AsyncGenerator<BlockRange> {
  const { a, b, lane, from, end } = pair;
  const either = mergeRanges(
    dataRanges(domain, a, { from, lane }),
    dataRanges(domain, b, { from, lane }),
  );
  const batches = alignedBatches(either, { from, end, batchSize: 1 });
  for await (const [range] of batches) {
    if (range === undefined) continue;
    const stop = range.offset + range.length;
    for (let offset = range.offset; offset < stop; offset += maxComparedBytes) {
      requireNotCancelled(call);
      const left = stop - offset;
      const length = left < maxComparedBytes ? left : maxComparedBytes;
      yield* await domain.inLane(lane, () =>
        domain.host.extents.compare(a, b, { offset, length, blockBytes: metadataBlockBytes }),
      );
    }
  }
}

function laneOf({ record, pool }: FoundSnapshot): Lane {
  return { kind: 'metadata', id: record.id, pool: pool.name };
}
