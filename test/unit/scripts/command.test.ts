import test from 'ava';
import { attempt, eventually, FinalError } from '../../../scripts/command.ts';

test('a final error ends the wait at once, other errors do not', async (t) => {
  let calls = 0;
  const wait = eventually(
    'an answer',
    async () => {
      calls += 1;
      throw calls === 1 ? new Error('not yet') : new FinalError('it ended');
    },
    { everyMs: 1 },
  );
  await t.throwsAsync(wait, { message: 'it ended' });
  t.is(calls, 2);
});

test('a program that exceeds its time limit is ended, and the error has its output', async (t) => {
  const slow = attempt('sh', ['-c', 'echo begun; exec sleep 60'], { timeoutMs: 500 });
  await t.throwsAsync(slow, { message: /timed out[^]*begun/ });
});
