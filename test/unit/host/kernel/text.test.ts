import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { readKernelText } from '../../../../src/host/kernel/calls.ts';
import { driverLane } from '../../../../src/host/lane.ts';

test('a text that cannot be read completely is an error, not a truncated text', async (t) => {
  // A directory can be opened for reading, but not read.
  const error = await t.throwsAsync(readKernelText(driverLane, '/proc/self/fdinfo'), {
    instanceOf: KernelError,
  });
  t.like(error, { syscall: 'read', errno: 'EISDIR', subject: '/proc/self/fdinfo' });
  t.like(await t.throwsAsync(readKernelText(driverLane, '/proc/self/none')), { errno: 'ENOENT' });
  t.regex(await readKernelText(driverLane, '/proc/self/mountinfo'), /\n$/);
});
