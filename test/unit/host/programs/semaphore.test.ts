import test from 'ava';
import { makeSemaphore } from '../../../../src/host/programs/semaphore.ts';

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
