import test from 'ava';
import { RemoteSources } from '../../../src/rpc/remote-sources.ts';
import type { RemoteSource, SentCopy } from '../../../src/volumes/model.ts';

const copyOf = (id: string, copyName = 'pvc'): SentCopy => ({
  source: { kind: 'snapshot', id },
  copyName,
});
const sourceOn = (nodeId: string) => ({ nodeId }) as RemoteSource;

test('the last offer for a copy counts, once, for ten minutes', (t) => {
  let nowMs = 0;
  const offers = new RemoteSources(() => nowMs);
  const copy = copyOf('a.00000000');
  t.is(offers.take(copy), undefined);
  offers.put(copy, sourceOn('one'));
  offers.put(copy, sourceOn('two'));
  t.is(offers.take(copyOf('a.00000000', 'other')), undefined);
  t.is(offers.take({ ...copy, source: { kind: 'volume', id: 'a.00000000' } }), undefined);
  t.is(offers.take(copy)?.nodeId, 'two');
  t.is(offers.take(copy), undefined);
  offers.put(copy, sourceOn('one'));
  nowMs = 10 * 60_000 + 1;
  t.is(offers.take(copy), undefined);
});

test('at most a thousand offers are kept, the newest ones', (t) => {
  const offers = new RemoteSources();
  for (let index = 0; index <= 1_000; index += 1) offers.put(copyOf(`${index}`), sourceOn('one'));
  t.is(offers.take(copyOf('0')), undefined);
  t.truthy(offers.take(copyOf('1')));
  t.truthy(offers.take(copyOf('1000')));
});
