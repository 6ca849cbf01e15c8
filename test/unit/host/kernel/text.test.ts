import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { readKernelText } from '../../../../src/host/kernel/calls.ts';

test('a text that cannot be read completely is an error, not a truncated text', async (t) => {
  // A directory can be opened for reading, but not read.
  const error = await t.throwsAsync(readKernelText('/proc/self/fdinfo'), {
    instanceOf: KernelError,
  });
  t.like(error, { syscall: 'read', subject: '/proc/self/fdinfo' });
  t.like(await t.throwsAsync(readKernelText('/proc/self/none')), { errno: 'ENOENT' });
  t.regex(await readKernelText('/proc/self/mountinfo'), /\n$/);
});
