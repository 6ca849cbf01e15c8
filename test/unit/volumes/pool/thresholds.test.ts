import test from 'ava';
import { GiB, MiB, TiB } from '../../../../src/units.ts';
import { poolDefaults } from '../../../../src/volumes/pool/settings.ts';
import {
  isFreeBelow,
  isGuarded,
  nextCheckMs,
  watermarksOf,
} from '../../../../src/volumes/pool/thresholds.ts';

test('a freeze starts while the dirty pages still fit, and a small empty pool is not frozen', (t) => {
  t.is(watermarksOf(TiB, 1).freezeBytes, 256n * MiB);
  t.true(watermarksOf(TiB, 100).freezeBytes >= 100n * 16n * MiB);
  t.is(watermarksOf(GiB, 1).freezeBytes, 128n * MiB);
  const { freezeBytes, trimBytes, thawBytes, alertBytes } = watermarksOf(TiB, 1);
  t.true(freezeBytes < trimBytes && trimBytes <= thawBytes && thawBytes < alertBytes);
});

test('the guard checks again before a disk can reach the freeze watermark', (t) => {
  const watermarks = watermarksOf(TiB, 1);
  const fastest = 2n * GiB;
  for (const left of [0n, 100n * MiB, GiB, 3n * GiB]) {
    const ms = nextCheckMs(watermarks.freezeBytes + left, watermarks);
    t.true(BigInt(ms) * fastest <= left * 1000n || ms === 50, `${left} bytes: ${ms} ms`);
  }
  t.is(nextCheckMs(TiB, watermarks), 2_000);
  t.is(nextCheckMs(0n, watermarks), 50);
});

test('a pool that promises more than it has is guarded, unless its settings say otherwise', (t) => {
  const of = (guard: boolean | undefined, overcommitPerMille: number) =>
    isGuarded({ settings: { ...poolDefaults, name: 'a', path: '/a', guard, overcommitPerMille } });
  t.deepEqual([of(undefined, 1000), of(undefined, 1001)], [false, true]);
  t.deepEqual([of(true, 1000), of(false, 4000)], [true, false]);
});

test('free space is compared with a percentage of the filesystem', (t) => {
  t.false(isFreeBelow({ freeBytes: 5n * GiB, totalBytes: 100n * GiB }, 5n));
  t.true(isFreeBelow({ freeBytes: 5n * GiB - 1n, totalBytes: 100n * GiB }, 5n));
});
