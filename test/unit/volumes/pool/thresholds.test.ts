import test from 'ava';
import { GiB, MiB, TiB } from '../../../../src/units.ts';
import { poolDefaults } from '../../../../src/volumes/pool/settings.ts';
import { isGuarded, nextLookMs, watermarksOf } from '../../../../src/volumes/pool/thresholds.ts';

test('a freeze begins while all that is dirty still fits, and a small pool is not frozen from the start', (t) => {
  t.is(watermarksOf(TiB, 1).freezeBytes, 256n * MiB);
  t.true(watermarksOf(TiB, 100).freezeBytes >= 100n * 16n * MiB);
  t.is(watermarksOf(GiB, 1).freezeBytes, 128n * MiB);
  const { freezeBytes, trimBytes, thawBytes, alertBytes } = watermarksOf(TiB, 1);
  t.true(freezeBytes < trimBytes && trimBytes <= thawBytes && thawBytes < alertBytes);
});

test('the guard looks again before a disk could have written down to the mark', (t) => {
  const marks = watermarksOf(TiB, 1);
  const fastest = 2n * GiB;
  for (const left of [0n, 100n * MiB, GiB, 3n * GiB]) {
    const ms = nextLookMs(marks.freezeBytes + left, marks);
    t.true(BigInt(ms) * fastest <= left * 1000n || ms === 50, `${left} bytes: ${ms} ms`);
  }
  t.is(nextLookMs(TiB, marks), 2_000);
  t.is(nextLookMs(0n, marks), 50);
});

test('a pool that promises more than it has is guarded, unless it is told otherwise', (t) => {
  const of = (guard: boolean | undefined, overcommitPerMille: number) =>
    isGuarded({ settings: { ...poolDefaults, name: 'a', path: '/a', guard, overcommitPerMille } });
  t.deepEqual([of(undefined, 1000), of(undefined, 1001)], [false, true]);
  t.deepEqual([of(true, 1000), of(false, 4000)], [true, false]);
});
