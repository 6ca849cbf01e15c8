import test from 'ava';
import type { BlockRange } from '../../../../src/volumes/model.ts';
import { alignedBatches, mergeRanges } from '../../../../src/volumes/snapshot/block-ranges.ts';

async function* stream(...ranges: readonly BlockRange[]): AsyncGenerator<BlockRange> {
  yield* ranges;
}

async function batchesOf(
  ranges: readonly BlockRange[],
  options: { from?: bigint; end?: bigint; batchSize?: number } = {},
) {
  const all: (readonly BlockRange[])[] = [];
  const filled = { from: 0n, end: 1n << 30n, batchSize: 10, ...options };
  for await (const batch of alignedBatches(stream(...ranges), filled)) all.push(batch);
  return all;
}

test('ranges are aligned outwards, joined, limited to the volume and batched', async (t) => {
  const small = [
    { offset: 1n, length: 1n },
    { offset: 4095n, length: 2n },
    { offset: 20_480n, length: 4096n },
    { offset: 40_960n, length: 100n },
  ];
  t.deepEqual(await batchesOf(small), [
    [
      { offset: 0n, length: 8192n },
      { offset: 20_480n, length: 4096n },
      { offset: 40_960n, length: 4096n },
    ],
  ]);
  t.deepEqual(await batchesOf(small, { batchSize: 1 }), [
    [{ offset: 0n, length: 8192n }],
    [{ offset: 20_480n, length: 4096n }],
    [{ offset: 40_960n, length: 4096n }],
  ]);
  t.deepEqual(await batchesOf(small, { from: 4096n, end: 24_576n }), [
    [
      { offset: 4096n, length: 4096n },
      { offset: 20_480n, length: 4096n },
    ],
  ]);
  t.deepEqual(await batchesOf([]), []);
  const touching = [
    { offset: 0n, length: 4096n },
    { offset: 4096n, length: 4096n },
  ];
  t.deepEqual(await batchesOf(touching), [[{ offset: 0n, length: 8192n }]]);
});

test('two streams are merged in ascending order, and both are closed when the reader stops', async (t) => {
  const ended: string[] = [];
  async function* numbers(name: string, ...offsets: readonly bigint[]): AsyncGenerator<BlockRange> {
    try {
      for (const offset of offsets) yield { offset, length: 1n };
    } finally {
      ended.push(name);
    }
  }
  const all: bigint[] = [];
  for await (const { offset } of mergeRanges(numbers('a', 1n, 4n, 9n), numbers('b', 2n, 4n))) {
    all.push(offset);
  }
  t.deepEqual(all, [1n, 2n, 4n, 4n, 9n]);
  t.deepEqual(ended.splice(0).toSorted(), ['a', 'b']);
  for await (const _ of mergeRanges(numbers('a', 1n, 2n), numbers('b', 1n, 2n))) break;
  t.deepEqual(ended.toSorted(), ['a', 'b']);
});
