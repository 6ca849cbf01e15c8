import { status } from '@grpc/grpc-js';
import test from 'ava';
import { type Reason, reasons, VolumeError } from '../../../src/errors.ts';
import { toStatus } from '../../../src/rpc/status.ts';

const codes: Readonly<Record<Reason, status>> = {
  invalid: 3,
  'not-found': 5,
  conflict: 6,
  busy: 10,
  'wrong-state': 9,
  'out-of-range': 11,
  'no-space': 8,
  'stale-token': 10,
  unavailable: 14,
  unsupported: 12,
  cancelled: 1,
  internal: 13,
};
for (const reason of reasons) {
  test(`${reason} is ${status[codes[reason]]}`, (t) => {
    t.deepEqual(toStatus(new VolumeError(reason, 'message')), {
      code: codes[reason],
      details: 'message',
    });
  });
}

test('a long message is truncated, and the message of an unexpected error is not sent', (t) => {
  t.is(toStatus(new VolumeError('invalid', 'x'.repeat(100_000))).details.length, 2001);
  for (const thrown of [new Error('inner'), 'inner', undefined, { code: 5, details: 'inner' }]) {
    t.is(toStatus(thrown).code, status.INTERNAL);
    t.notRegex(toStatus(thrown).details, /inner/);
  }
});
