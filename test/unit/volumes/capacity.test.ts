import test from 'ava';
import fc from 'fast-check';
import { VolumeError } from '../../../src/errors.ts';
import { GiB, MiB } from '../../../src/units.ts';
import {
  chooseCapacity,
  imageUnit,
  isInRange,
  maxImageBytes,
} from '../../../src/volumes/capacity.ts';

const cases = [
  { name: 'no size is requested: the default', requiredBytes: 0n, limitBytes: 0n, expect: GiB },
  {
    name: 'only a limit below the default is requested: the limit',
    requiredBytes: 0n,
    limitBytes: 100n * MiB,
    expect: 100n * MiB,
  },
  {
    name: 'only a limit below the minimum is requested: an error',
    requiredBytes: 0n,
    limitBytes: 4n * MiB,
    expect: 'out-of-range',
  },
  {
    name: 'a multiple of 1 MiB is not changed',
    requiredBytes: 16n * MiB,
    limitBytes: 0n,
    expect: 16n * MiB,
  },
  {
    name: 'another size is rounded up to 1 MiB',
    requiredBytes: 16n * MiB + 1n,
    limitBytes: 0n,
    expect: 17n * MiB,
  },
  {
    name: 'a size below the minimum is requested: the minimum',
    requiredBytes: 1n,
    limitBytes: 0n,
    expect: 8n * MiB,
  },
  {
    name: 'the limit is below the rounded size',
    requiredBytes: 16n * MiB + 1n,
    limitBytes: 16n * MiB + 2n,
    expect: 'out-of-range',
  },
  {
    name: 'the limit is below the required bytes',
    requiredBytes: 16n * MiB,
    limitBytes: 15n * MiB,
    expect: 'out-of-range',
  },
  {
    name: 'the limit equals the size',
    requiredBytes: 16n * MiB,
    limitBytes: 16n * MiB,
    expect: 16n * MiB,
  },
  {
    name: 'the size is above the maximum',
    requiredBytes: maxImageBytes + 1n,
    limitBytes: 0n,
    expect: 'out-of-range',
  },
  {
    name: 'the size is the maximum 64-bit number',
    requiredBytes: 2n ** 63n - 1n,
    limitBytes: 0n,
    expect: 'out-of-range',
  },
  { name: 'negative', requiredBytes: -1n, limitBytes: 0n, expect: 'invalid' },
] as const;

for (const { name, expect, ...range } of cases) {
  test(`chooseCapacity: ${name}`, (t) => {
    const choose = (): bigint => chooseCapacity(range, { minBytes: 8n * MiB, subject: 'volume v' });
    if (typeof expect === 'bigint') t.is(choose(), expect);
    else t.is(t.throws(choose, { instanceOf: VolumeError }).reason, expect);
  });
}

test('chooseCapacity: every result is in the range, is a multiple of the unit, and does not change when it is requested again', (t) => {
  const bytes = fc.bigInt({ min: 0n, max: 2n ** 50n });
  fc.assert(
    fc.property(bytes, bytes, (requiredBytes, limitBytes) => {
      const range = { requiredBytes, limitBytes };
      let size: bigint;
      try {
        size = chooseCapacity(range, { minBytes: 8n * MiB, subject: 'v' });
      } catch (error) {
        t.true(error instanceof VolumeError && error.reason === 'out-of-range');
        return;
      }
      t.true(isInRange(size, range));
      t.is(size % imageUnit, 0n);
      t.true(size >= 8n * MiB && size <= maxImageBytes);
      t.is(
        chooseCapacity({ requiredBytes: size, limitBytes }, { minBytes: 8n * MiB, subject: 'v' }),
        size,
      );
    }),
  );
});
