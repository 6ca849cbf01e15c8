import test from 'ava';
import { retry } from '../../src/retry.ts';

const isTransient = (): boolean => true;

/** Fails with errors named 1, 2, 3 and so on. */
function failing() {
  const call = async (): Promise<never> => {
    calls.count += 1;
    throw new Error(String(calls.count));
  };
  const calls = { count: 0, call };
  return calls;
}

/** Serial, because it replaces the clock of the whole process. */
test.serial('on timeout the last error is thrown', async (t) => {
  const now = performance.now.bind(performance);
  t.teardown(() => {
    performance.now = now;
  });
  let elapsedMs = 0;
  performance.now = () => {
    elapsedMs += 10;
    return elapsedMs;
  };
  const calls = failing();
  const error = await t.throwsAsync(retry(calls.call, { isTransient, timeoutMs: 30, pauseMs: 5 }));
  t.is(calls.count, 3);
  t.is(error.message, '3');
});

test('the pause doubles up to its maximum', async (t) => {
  const calls = failing();
  const options = { isTransient, timeoutMs: 100, pauseMs: 10, maxPauseMs: 40 };
  await t.throwsAsync(retry(calls.call, options));
  // At 0, 10, 30 and 70 ms; on a slow machine less often.
  t.true(calls.count <= 4, String(calls.count));
});

test('an abort ends the pause, and the next error is thrown', async (t) => {
  const calls = failing();
  const stop = new AbortController();
  setTimeout(() => {
    stop.abort();
  }, 10);
  const options = { isTransient, timeoutMs: 60_000, pauseMs: 30_000, signal: stop.signal };
  const error = await t.throwsAsync(retry(calls.call, options));
  t.is(error.message, '2');
});
