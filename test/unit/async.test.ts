import test from 'ava';
import { mapConcurrently, pollUntil, runConcurrently } from '../../src/async.ts';

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
  t.true(performance.now() - start >= 20);
});

test('the pause of a poll doubles up to its maximum', async (t) => {
  const asked = trueAtCall(Number.POSITIVE_INFINITY);
  await pollUntil(asked.isDone, { timeoutMs: 100, pauseMs: 10, maxPauseMs: 40 });
  // At 0, 10, 30, 70 and 110 ms; on a slow machine less often.
  t.true(asked.calls <= 5, String(asked.calls));
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
