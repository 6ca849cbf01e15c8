import type { BlockRange } from '../model.ts';

/** Changed and allocated ranges begin and end at multiples of this: the block size of every filesystem that a pool may be on. */
export const metadataBlockBytes = 4096n;

/**
 * Aligns ascending ranges outwards to blocks, limits them to `from` and `end`, joins those that touch or overlap, and yields
 * batches of at most `batchSize`. Only one batch is in memory at a time.
 */
export async function* alignedBatches(
  ranges: AsyncIterable<BlockRange>,
  options: { from: bigint; end: bigint; batchSize: number },
): AsyncGenerator<readonly BlockRange[]> {
  const { from, end, batchSize } = options;
  let batch: BlockRange[] = [];
  let pending: { from: bigint; to: bigint } | undefined;
  for await (const { offset, length } of ranges) {
    const begin = max(from, blockStart(offset));
    const to = min(end, blockStart(offset + length + metadataBlockBytes - 1n));
    if (begin >= to) continue;
    if (pending !== undefined && begin <= pending.to) {
      pending.to = max(pending.to, to);
      continue;
    }
    if (pending !== undefined) batch.push(rangeOf(pending));
    pending = { from: begin, to };
    if (batch.length >= batchSize) {
      yield batch;
      batch = [];
    }
  }
  if (pending !== undefined) batch.push(rangeOf(pending));
  if (batch.length > 0) yield batch;
}

/** The offset at which the block that contains `offset` begins. */
export function blockStart(offset: bigint): bigint {
  return offset - (offset % metadataBlockBytes);
}

/** Merges two ascending sequences into one; its ranges may overlap. */
export async function* mergeRanges(
  a: AsyncIterable<BlockRange>,
  b: AsyncIterable<BlockRange>,
): AsyncGenerator<BlockRange> {
  const iterators = [a[Symbol.asyncIterator](), b[Symbol.asyncIterator]()] as const;
  try {
    let [left, right] = [await iterators[0].next(), await iterators[1].next()];
    while (left.done !== true || right.done !== true) {
      const takeLeft =
        right.done === true || (left.done !== true && left.value.offset <= right.value.offset);
      if (takeLeft && left.done !== true) {
        yield left.value;
        left = await iterators[0].next();
      } else if (right.done !== true) {
        yield right.value;
        right = await iterators[1].next();
      }
    }
  } finally {
    for (const iterator of iterators) await iterator.return?.();
  }
}

function rangeOf({ from, to }: { from: bigint; to: bigint }): BlockRange {
  return { offset: from, length: to - from };
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
