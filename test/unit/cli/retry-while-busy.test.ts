import { PassThrough } from 'node:stream';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { patiently } from '../../../src/cli/retry-while-busy.ts';
import { Terminal } from '../../../src/cli/terminal.ts';

const terminal = new Terminal(
  { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() },
  {},
);
const answer = (code: status): Error =>
  Object.assign(new Error(), { code, details: 'busy, or not' });

test('what is busy is asked again until it is done', async (t) => {
  let calls = 0;
  const done = await patiently(terminal, 'work', async () => {
    calls += 1;
    if (calls < 3) throw answer(status.ABORTED);
    return 'done';
  });
  t.is(done, 'done');
  t.is(calls, 3);
});

test('any other answer is final', async (t) => {
  let calls = 0;
  await t.throwsAsync(
    patiently(terminal, 'work', async () => {
      calls += 1;
      throw answer(status.FAILED_PRECONDITION);
    }),
  );
  t.is(calls, 1);
});
