import test from 'ava';
import { untilSourceStalls } from '../../../../src/volumes/admin/transfer/stalls.ts';

const stalledError = () => new Error('stalled');

async function* first(after: Promise<void> = Promise.resolve()): AsyncGenerator<number> {
  yield 1;
  await after;
  yield 2;
}

async function collect(items: AsyncIterable<number>): Promise<readonly number[]> {
  const all: number[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const never = new Promise<void>(() => undefined);
const { signal } = new AbortController();

test('a source that sends everything is passed on', async (t) => {
  const limits = { signal, limitMs: 60_000, stalledError };
  t.deepEqual(await collect(untilSourceStalls(first(), limits)), [1, 2]);
});

test('a source that sends nothing ends at the limit, or at once with an abort', async (t) => {
  const stalled = untilSourceStalls(first(never), { signal, limitMs: 20, stalledError });
  await t.throwsAsync(collect(stalled), { message: 'stalled' });
  const abort = new AbortController();
  const limits = { signal: abort.signal, limitMs: 60_000, stalledError };
  const items = untilSourceStalls(first(never), limits);
  t.is((await items.next()).value, 1);
  const next = items.next();
  abort.abort(new Error('deleted'));
  await t.throwsAsync(next, { message: 'deleted' });
});
