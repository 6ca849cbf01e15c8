import test from 'ava';
import { Transfers } from '../../../../src/volumes/jobs/transfers.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';

const { signal } = new AbortController();

test('only so many copies are sent at a time; a free slot goes to the next', async (t) => {
  const transfers = new Transfers({ parallel: 2, bytesPerSecond: 0n });
  const ends = [await transfers.beginSending(signal), await transfers.beginSending(signal)];
  let hasBegun = false;
  const third = transfers.beginSending(signal).then((end) => {
    hasBegun = true;
    return end;
  });
  await new Promise(setImmediate);
  t.false(hasBegun);
  ends[0]?.();
  (await third)();
  t.true(hasBegun);
});

test('who leaves while it waits takes no slot', async (t) => {
  const transfers = new Transfers({ parallel: 1, bytesPerSecond: 0n });
  const end = await transfers.beginSending(signal);
  const leaving = new AbortController();
  const waiting = transfers.beginSending(leaving.signal);
  leaving.abort(new Error('gone'));
  t.is(await reasonOf(waiting), 'cancelled');
  end();
  (await transfers.beginSending(signal))();
});

test('bytes take the time of the rate, all copies together', async (t) => {
  const transfers = new Transfers({ parallel: 2, bytesPerSecond: 10n * 1024n * 1024n });
  const startedAtMs = performance.now();
  const send = async () => {
    for (let count = 0; count < 4; count += 1) await transfers.pace(256 * 1024, signal);
  };
  await Promise.all([send(), send()]);
  // 2 MiB, of which the last piece is not waited for.
  t.true(performance.now() - startedAtMs > 170, `${performance.now() - startedAtMs} ms`);
});
