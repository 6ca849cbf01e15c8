import test from 'ava';
import { causeOf, VolumeError } from '../../src/errors.ts';

test('the cause of an error is logged unless its message contains it', (t) => {
  const cause = new Error('umount: EBUSY');
  t.is(causeOf(new VolumeError('busy', 'it is in use', { cause })), 'umount: EBUSY');
  t.is(causeOf(new VolumeError('busy', 'volume v: umount: EBUSY', { cause })), undefined);
  t.is(causeOf(new VolumeError('busy', cause.message, { cause })), undefined);
  t.is(causeOf(new Error('no cause')), undefined);
  t.is(causeOf('text'), undefined);
});
