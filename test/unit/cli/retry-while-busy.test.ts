import { PassThrough } from 'node:stream';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { retryWhileBusy } from '../../../src/cli/retry-while-busy.ts';
import { Terminal } from '../../../src/cli/terminal.ts';

const terminal = new Terminal(
  { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() },
  {},
);
const grpcError = (code: status): Error =>
  Object.assign(new Error(), { code, details: 'a message' });

test('ABORTED is retried until the call succeeds', async (t) => {
  let calls = 0;
  const done = await retryWhileBusy(terminal, 'work', async () => {
    calls += 1;
    if (calls < 3) throw grpcError(status.ABORTED);
    return 'done';
  });
  t.is(done, 'done');
  t.is(calls, 3);
});

test('any other error is final', async (t) => {
  let calls = 0;
  await t.throwsAsync(
    retryWhileBusy(terminal, 'work', async () => {
      calls += 1;
      throw grpcError(status.FAILED_PRECONDITION);
    }),
  );
  t.is(calls, 1);
});
