import test from 'ava';
import fc from 'fast-check';
import { findDifferences, isSameMap, windowOf } from '../../../../src/host/files/extent-delta.ts';
import type { ByteRange, Extent } from '../../../../src/host/host.ts';

const page = 4096n;
const last = 0x1;
const delalloc = 0x4;
const encoded = 0x8;
const inline = 0x200;
const unwritten = 0x800;
const shared = 0x2000;

type Written = readonly [number, number, number, number?];

/** Extents written as `[first page, pages, address in pages, flags]`. */
function extents(...list: readonly Written[]): Extent[] {
  return list.map(([logical, length, physical, flags = 0]) => ({
    logical: BigInt(logical) * page,
    length: BigInt(length) * page,
    physical: BigInt(physical) * page,
    flags,
  }));
}

function pagesOf(ranges: readonly ByteRange[]): readonly (readonly [number, number])[] {
  return ranges.map(({ offset, length }) => [Number(offset / page), Number(length / page)]);
}

const cases = [
  { name: 'two holes are equal', a: [], b: [], changed: [] },
  {
    name: 'equal addresses at one offset are equal',
    a: [[0, 8, 100]],
    b: [[0, 8, 100]],
    changed: [],
  },
  { name: 'another address is a change', a: [[0, 8, 100]], b: [[0, 8, 200]], changed: [[0, 8]] },
  {
    name: 'the same address at another offset is a change',
    a: [[0, 4, 100]],
    b: [[1, 4, 100]],
    changed: [[0, 5]],
  },
  {
    name: 'extents with different boundaries are compared block by block',
    a: [[0, 8, 100]],
    b: [
      [0, 3, 100],
      [3, 1, 500],
      [4, 4, 104],
    ],
    changed: [[3, 1]],
  },
  {
    name: 'an unwritten extent equals a hole',
    a: [[0, 8, 100, unwritten]],
    b: [],
    changed: [],
  },
  { name: 'data against zeroes is a change', a: [[2, 2, 100]], b: [], changed: [[2, 2]] },
  {
    name: 'the SHARED flag is ignored',
    a: [[0, 2, 100, shared]],
    b: [[0, 2, 100]],
    changed: [],
  },
  {
    name: 'delayed, encoded and inline data has no reliable address',
    a: [
      [0, 1, 0, delalloc],
      [2, 1, 50, encoded],
      [4, 1, 0, inline],
    ],
    b: [
      [0, 1, 0, delalloc],
      [2, 1, 50, encoded],
      [4, 1, 0, inline],
    ],
    changed: [
      [0, 1],
      [2, 1],
      [4, 1],
    ],
  },
] as const satisfies readonly {
  name: string;
  a: readonly Written[];
  b: readonly Written[];
  changed: readonly (readonly [number, number])[];
}[];

for (const { name, a, b, changed } of cases) {
  test(`differences: ${name}`, (t) => {
    const range = { from: 0n, to: 16n * page };
    t.deepEqual(pagesOf(findDifferences(extents(...a), extents(...b), range)), changed);
    t.deepEqual(pagesOf(findDifferences(extents(...b), extents(...a), range)), changed);
  });
}

/** A file as one address for each page; undefined is a hole. */
const file = fc.array(fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined }), {
  minLength: 32,
  maxLength: 32,
});

/** The map of such a file; consecutive pages are joined where `joins` is true. */
function mapOf(pages: readonly (number | undefined)[], joins: readonly boolean[]): Extent[] {
  const found: [number, number, number][] = [];
  for (const [i, address] of pages.entries()) {
    const before = found.at(-1);
    if (address === undefined) continue;
    const follows =
      before !== undefined && before[0] + before[1] === i && before[2] + before[1] === address;
    if (follows && joins[i] === true) before[1] += 1;
    else found.push([i, 1, address]);
  }
  return extents(...found);
}

test('differences: two maps differ where their pages differ, whatever their extent boundaries', (t) => {
  const joins = fc.array(fc.boolean(), { minLength: 32, maxLength: 32 });
  fc.assert(
    fc.property(file, file, joins, joins, (a, b, joinsA, joinsB) => {
      const range = { from: 0n, to: 32n * page };
      const changed = new Set<number>();
      for (const [first, pages] of pagesOf(
        findDifferences(mapOf(a, joinsA), mapOf(b, joinsB), range),
      )) {
        for (let i = 0; i < pages; i += 1) changed.add(first + i);
      }
      return a.every((address, i) => changed.has(i) === (address !== b[i]));
    }),
  );
  t.pass();
});

test('a window ends with its last extent, or at the end of the file', (t) => {
  const end = 100n * page;
  const [one, two] = [extents([0, 4, 10]), extents([0, 4, 10, last])];
  t.is(windowOf(one, end).to, 4n * page);
  t.is(windowOf(two, end).to, end);
  t.is(windowOf([], end).to, end);
  t.is(windowOf(extents([0, 200, 10]), end).to, end);
});

test('a moved extent is a change of the map, a newly shared extent is not', (t) => {
  const end = 100n * page;
  const before = windowOf(extents([0, 4, 10], [8, 4, 30]), end);
  const window = (...list: readonly Written[]) => windowOf(extents(...list), end);
  t.true(isSameMap(before, window([0, 4, 10, shared], [8, 4, 30, last]), 12n * page));
  t.false(isSameMap(before, window([0, 4, 11], [8, 4, 30]), 12n * page));
  t.true(
    isSameMap(before, window([0, 4, 10], [8, 4, 99]), 4n * page),
    'extents after the range are ignored',
  );
  t.false(isSameMap(before, window([0, 4, 10]), 12n * page), 'the window is too short');
});
