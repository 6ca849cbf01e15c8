import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { parseLimits } from '../../../../src/volumes/parameters/io-limits.ts';
import { parseMutableParameters } from '../../../../src/volumes/parameters/storage-class.ts';

test('limits are numbers in the notation of Kubernetes, and max is no limit', (t) => {
  t.deepEqual(parseLimits({ readBytesPerSecond: '1.5Mi', writeBytesPerSecond: ' max ' }), {
    readBytesPerSecond: (3n * MiB) / 2n,
    writeBytesPerSecond: null,
  });
  t.deepEqual(parseLimits({ readIops: '4294967294', writeIops: '1k' }), {
    readIops: 2n ** 32n - 2n,
    writeIops: 1000n,
  });
  t.deepEqual(parseLimits({ trim: 'off' }), {});
});

for (const { parameters, says } of [
  { parameters: { readBytesPerSecond: '0' }, says: /below the minimum of 65536; use 'max'/ },
  { parameters: { readBytesPerSecond: '' }, says: /'' is not a size/ },
  { parameters: { writeBytesPerSecond: '-1' }, says: /'-1' is not a size/ },
  { parameters: { writeBytesPerSecond: '65535' }, says: /below the minimum of 65536/ },
  { parameters: { writeBytesPerSecond: '9999999999999Pi' }, says: /above the maximum/ },
  { parameters: { readIops: '0' }, says: /below the minimum of 10/ },
  { parameters: { readIops: '' }, says: /is not a number/ },
  { parameters: { readIops: '500B' }, says: /is not a number/ },
  { parameters: { writeIops: '4294967295' }, says: /above the maximum/ },
  { parameters: { writeIops: 'unlimited' }, says: /'max' for no limit/ },
  { parameters: { pool: 'fast' }, says: /'pool' can only be set when a volume is created/ },
  { parameters: { readIop: '500' }, says: /'readIop' is not known; known keys: trim, read/ },
  { parameters: { trim: 'never' }, says: /'never' is not allowed/ },
] as const) {
  test(`mutable parameters ${JSON.stringify(parameters)} are invalid`, (t) => {
    const error = t.throws(() => parseMutableParameters(parameters), { instanceOf: VolumeError });
    t.is(error.reason, 'invalid');
    t.regex(error.message, says);
  });
}
