import test from 'ava';
import {
  callPeriodically,
  makeSemaphore,
  mapConcurrently,
  pollUntil,
  retry,
  runConcurrently,
  settleAll,
} from '../../src/async.ts';

/** Answers false, and true from the call with this number on. */
function trueAtCall(number: number) {
  const asked = {
    calls: 0,
    isDone: () => {
      asked.calls += 1;
      return asked.calls >= number;
    },
  };
  return asked;
}

test('a poll ends at the first true answer, without a pause before the first one', async (t) => {
  const first = trueAtCall(1);
  t.true(await pollUntil(first.isDone, { timeoutMs: 0, pauseMs: 60_000 }));
  const third = trueAtCall(3);
  t.true(await pollUntil(async () => third.isDone(), { timeoutMs: 60_000, pauseMs: 1 }));
  t.deepEqual([first.calls, third.calls], [1, 3]);
});

test('a poll answers false after its time limit', async (t) => {
  const start = performance.now();
  t.false(await pollUntil(() => false, { timeoutMs: 20, pauseMs: 5 }));
  // A timer may expire up to a millisecond early.
  t.true(performance.now() - start >= 19);
});

test('the pause of a poll doubles up to its maximum', async (t) => {
  const asked = trueAtCall(Number.POSITIVE_INFINITY);
  await pollUntil(asked.isDone, { timeoutMs: 100, pauseMs: 10, maxPauseMs: 40 });
  // At 0, 10, 30, 70 and 100 ms, on a slow machine less often.
  t.true(asked.calls >= 2 && asked.calls <= 5, String(asked.calls));
});

test('a poll fails with the error of its question', async (t) => {
  const isDone = () => Promise.reject(new Error('no answer'));
  const error = await t.throwsAsync(pollUntil(isDone, { timeoutMs: 60_000, pauseMs: 1 }));
  t.is(error.message, 'no answer');
});

test('concurrent results have the order of their items, and the limit is kept', async (t) => {
  let running = 0;
  let maxRunning = 0;
  const work = async (item: number): Promise<number> => {
    running += 1;
    maxRunning = Math.max(maxRunning, running);
    // Later items end earlier.
    for (let turn = 10 - item; turn > 0; turn -= 1) await Promise.resolve();
    running -= 1;
    return item * 2;
  };
  const items = Array.from({ length: 10 }, (_, index) => index);
  const results = await mapConcurrently(items, 3, work);
  t.deepEqual(
    results,
    items.map((item) => item * 2),
  );
  t.is(maxRunning, 3);
  t.deepEqual(await mapConcurrently([], 3, work), []);
});

test('after a failure no further call starts', async (t) => {
  const started: number[] = [];
  const jobs = Array.from({ length: 10 }, (_, index) => async () => {
    started.push(index);
    await Promise.resolve();
    if (index === 1) throw new Error('job 1');
  });
  const error = await t.throwsAsync(runConcurrently(jobs, 2));
  t.is(error.message, 'job 1');
  await new Promise(setImmediate);
  t.deepEqual(started, [0, 1, 2]);
});

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
test.serial('at the time limit, a retry throws the last error', async (t) => {
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

test('the pause between retries doubles up to its maximum', async (t) => {
  const calls = failing();
  const options = { isTransient, timeoutMs: 100, pauseMs: 10, maxPauseMs: 40 };
  await t.throwsAsync(retry(calls.call, options));
  // At 0, 10, 30, 70 and 100 ms, on a slow machine less often.
  t.true(calls.count >= 2 && calls.count <= 5, String(calls.count));
});

test('an abort ends the pause of a retry, and the next error is thrown', async (t) => {
  const calls = failing();
  const stop = new AbortController();
  setTimeout(() => {
    stop.abort();
  }, 10);
  const options = { isTransient, timeoutMs: 60_000, pauseMs: 30_000, signal: stop.signal };
  const error = await t.throwsAsync(retry(calls.call, options));
  t.is(error.message, '2');
});

test('the last attempt is made at the time limit, even if that cuts the pause short', async (t) => {
  const start = performance.now();
  const asked = trueAtCall(Number.POSITIVE_INFINITY);
  t.false(await pollUntil(asked.isDone, { timeoutMs: 200, pauseMs: 60_000 }));
  const calls = failing();
  await t.throwsAsync(retry(calls.call, { isTransient, timeoutMs: 200, pauseMs: 60_000 }));
  t.true(performance.now() - start >= 398);
  t.deepEqual([asked.calls, calls.count], [2, 2]);
});

test('all works are waited for, and the first failure in their order is thrown', async (t) => {
  let isLastDone = false;
  const last = async (): Promise<void> => {
    await new Promise(setImmediate);
    isLastDone = true;
    throw new Error('last');
  };
  const works = [Promise.resolve(), last(), Promise.reject(new Error('fast'))];
  const error = await t.throwsAsync(settleAll(works));
  t.is(error.message, 'last');
  t.true(isLastDone);
  t.deepEqual(await settleAll([Promise.resolve(1), Promise.resolve(2)]), [1, 2]);
});

test('at most one work runs for each slot, in order', async (t) => {
  const slots = makeSemaphore(2);
  const begun: number[] = [];
  const finish: (() => void)[] = [];
  let running = 0;
  let most = 0;
  const works = [0, 1, 2, 3, 4].map((index) =>
    slots(async () => {
      begun.push(index);
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => finish.push(resolve));
      running -= 1;
      return index;
    }),
  );
  await Promise.resolve();
  t.deepEqual(begun, [0, 1]);
  for (let ended = 0; ended < 5; ended += 1) {
    while (finish.length === 0) await Promise.resolve();
    finish.shift()?.();
    await works[ended];
  }
  t.deepEqual(await Promise.all(works), [0, 1, 2, 3, 4]);
  t.deepEqual(begun, [0, 1, 2, 3, 4]);
  t.is(most, 2);
});

test('work that fails frees its slot', async (t) => {
  const slots = makeSemaphore(1);
  await t.throwsAsync(
    slots(() => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  t.is(await slots(() => Promise.resolve(1)), 1);
});

test('periodic work is called one at a time, after the time that it asks for, until it is stopped', async (t) => {
  // The timers of periodic work do not keep the process alive.
  const alive = setInterval(() => undefined, 1_000);
  t.teardown(() => {
    clearInterval(alive);
  });
  let running = 0;
  let calls = 0;
  const stopped = new Promise<() => void>((resolve) => {
    const stop = callPeriodically(async () => {
      running += 1;
      t.is(running, 1);
      await new Promise((resume) => setTimeout(resume, 2));
      running -= 1;
      calls += 1;
      if (calls === 3) resolve(stop);
      return 1;
    }, 0);
  });
  (await stopped)();
  // A later timer of the same length expires after the one that was cancelled.
  await new Promise((resume) => setTimeout(resume, 20));
  t.is(calls, 3);
});

test('an abort ends the wait for a slot, and the place in the queue passes on', async (t) => {
  const slots = makeSemaphore(1);
  let end = (): void => undefined;
  const running = slots(
    () =>
      new Promise<void>((resolve) => {
        end = resolve;
      }),
  );
  const abort = new AbortController();
  const aborted = slots(() => Promise.resolve('never'), abort.signal);
  const next = slots(() => Promise.resolve('next'));
  abort.abort(new Error('gave up'));
  await t.throwsAsync(aborted, { message: 'gave up' });
  end();
  await running;
  t.is(await next, 'next');
});
