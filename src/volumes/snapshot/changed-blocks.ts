import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { maxComparedBytes } from '../../host/files/compare-blocks.ts';
import {
  findDifferences,
  isSameMap,
  isUnwritten,
  windowOf,
} from '../../host/files/extent-delta.ts';
import type { Extent, Host } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import { inLane, type LaneSpec } from '../engine/lanes.ts';
import type { Call } from '../engine/operations.ts';
import type { BlockRange, BlockRanges } from '../model.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { alignedBatches, blockStart, mergeRanges, metadataBlockBytes } from './block-ranges.ts';
import { readySnapshot } from './ready-snapshot.ts';

/** How many times part of an extent map is read while blocks are being moved, for example by a btrfs balance. */
const maxMapAttempts = 10;

/**
 * CSI spec, GetMetadataAllocated: returns the ranges of the snapshot that contain data, from its extent map if the pool's
 * filesystem has one.
 */
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
    const data = dataRanges(inLane(domain, laneOf(found)).host, imagePath, from);
    return alignedBatches(untilCancelled(call, data), { from, end, batchSize });
  });
  return { volumeBytes: end, batches };
}

/**
 * CSI spec, GetMetadataDelta: returns the ranges that differ. Within one pool with reflink, comparing the extent maps suffices.
 * Otherwise the data of both snapshots is read and compared.
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
    };
    const { host } = inLane(domain, laneOf(target));
    const byMaps = base.pool === target.pool && base.pool.abilities?.reflink === true;
    const changed = byMaps
      ? changedByMaps(host, call, { ...pair, from, end })
      : changedByContent(host, call, { ...pair, from, end });
    return alignedBatches(changed, { from, end, batchSize });
  });
  return { volumeBytes: end, batches };
}

/** The start of the block that contains the offset. An offset equal to the size of the volume is allowed; the answer is then empty. */
function requireOffset({ record }: FoundSnapshot, startingOffset: bigint): bigint {
  if (startingOffset >= 0n && startingOffset <= record.sizeBytes) return blockStart(startingOffset);
  throw new VolumeError(
    'out-of-range',
    `starting_offset ${startingOffset} is beyond the end of snapshot '${record.id}', which has ${record.sizeBytes} bytes; start at a lower offset`,
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
  const release = domain.operations.locks.acquire({ shared }, rpc);
  try {
    yield* read();
  } catch (error) {
    const [pool, ...others] = new Set(snapshots.map((one) => one.pool));
    const subject = ids.map((id) => `snapshot '${id}'`).join(' and ');
    throw await toVolumeError(error, subject, others.length === 0 ? pool : undefined);
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

/** Yields the ranges of an image that contain data: from its extent map, or by SEEK_DATA if the filesystem has no FIEMAP. */
async function* dataRanges(
  { extents }: Host,
  path: string,
  from: bigint,
): AsyncGenerator<BlockRange> {
  let hasBegun = false;
  try {
    for await (const batch of extents.map(path, { from })) {
      hasBegun = true;
      for (const extent of batch) {
        if (!isUnwritten(extent)) yield { offset: extent.logical, length: extent.length };
      }
    }
  } catch (error) {
    if (hasBegun || !hasErrno(error, 'EOPNOTSUPP', 'ENOTTY')) throw error;
    yield* extents.data(path, { from });
  }
}

interface Pair {
  readonly a: string;
  readonly b: string;
  readonly from: bigint;
  readonly end: bigint;
}

/** Compares the extent maps one batch at a time, so that neither has to fit into memory. */
async function* changedByMaps(host: Host, call: Call, pair: Pair): AsyncGenerator<BlockRange> {
  let at = pair.from;
  while (at < pair.end) {
    requireNotCancelled(call);
    const { changed, to } = await compareBatch(host, pair, at);
    yield* changed;
    at = to;
  }
}

/**
 * Compares one batch of each map. The first map is read again after the second: only if it is unchanged were both valid at one
 * moment, so that equal addresses mean the same block.
 */
async function compareBatch(
  host: Host,
  pair: Pair,
  from: bigint,
): Promise<{ changed: readonly BlockRange[]; to: bigint }> {
  for (let attempt = 0; attempt < maxMapAttempts; attempt += 1) {
    const a = windowOf(await firstBatch(host, pair.a, from), pair.end);
    const b = windowOf(await firstBatch(host, pair.b, from), pair.end);
    const again = windowOf(await firstBatch(host, pair.a, from), pair.end);
    const to = a.to < b.to ? a.to : b.to;
    if (isSameMap(a, again, to)) {
      return { changed: findDifferences(a.extents, b.extents, { from, to }), to };
    }
  }
  throw new VolumeError(
    'unavailable',
    `the blocks of ${pair.a} are being moved by a balance or defragmentation of the pool's filesystem; try again when that has ended`,
  );
}

async function firstBatch(
  { extents }: Host,
  path: string,
  from: bigint,
): Promise<readonly Extent[]> {
  for await (const batch of extents.map(path, { from })) return batch;
  return [];
}

/** Reads all ranges with data in either image, and yields the blocks that differ. */
async function* changedByContent(host: Host, call: Call, pair: Pair): AsyncGenerator<BlockRange> {
  const { a, b, from, end } = pair;
  const either = mergeRanges(dataRanges(host, a, from), dataRanges(host, b, from));
  const batches = alignedBatches(either, { from, end, batchSize: 1 });
  for await (const [range] of batches) {
    if (range === undefined) continue;
    const stop = range.offset + range.length;
    for (let offset = range.offset; offset < stop; offset += maxComparedBytes) {
      requireNotCancelled(call);
      const left = stop - offset;
      const length = left < maxComparedBytes ? left : maxComparedBytes;
      const blocks = { offset, length, blockBytes: metadataBlockBytes };
      yield* await host.extents.compare(a, b, blocks);
    }
  }
}

function laneOf({ record, pool }: FoundSnapshot): LaneSpec {
  return { kind: 'metadata', id: record.id, pool: pool.name };
}
