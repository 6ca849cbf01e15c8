import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { followList } from '../../../../src/controller/kube/followed-list.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';
import { until } from '../../../helpers/until.ts';

const collection = '/api/v1/namespaces/storage/configmaps';
const named = (name: string, data = ''): object => ({
  metadata: { name, namespace: 'storage' },
  data,
});

async function follow(t: ExecutionContext, timing: { watchMs?: number; timeoutMs?: number } = {}) {
  const api = await FakeKubeApi.start();
  const port = Number(new URL(api.access.url).port);
  const { watchMs = 600_000, timeoutMs = 60_000 } = timing;
  const client = makeKubeClient(api.access, { timeoutMs });
  const messages: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => messages.push(line) });
  const seen: (readonly string[])[] = [];
  api.put(collection, named('a'));
  const following = followList({
    client,
    path: collection,
    log,
    timing: { pauseMs: 5, maxPauseMs: 20, watchMs },
    onChange: (objects) =>
      seen.push(objects.map(({ metadata, ['data']: data }) => `${metadata.name}=${String(data)}`)),
  });
  t.teardown(async () => {
    following.close();
    client.close();
    await api.stop();
  });
  const last = (): string => (seen.at(-1) ?? []).join(' ');
  await until('the first list', () => seen.length > 0);
  await until('the first watch', () => api.watchCount === 1);
  const count = (pattern: RegExp): number => api.requests.filter((one) => pattern.test(one)).length;
  return { api, port, seen, last, messages, count, following };
}

const aList = /^GET (?!.*watch=true)/;
const aWatch = /watch=true/;

test('a connection that is dropped is followed by a watch from the last version, without a list', async (t) => {
  const { api, last, count } = await follow(t);
  api.put(collection, named('b'));
  await until('b is seen', () => last() === 'a= b=');
  api.dropConnections();
  api.put(collection, named('c'));
  await until('c is seen', () => last() === 'a= b= c=');
  t.is(count(aList), 1);
});

test('a version that is too old, in the answer or in an event, is followed by a list', async (t) => {
  const { api, last, count } = await follow(t);
  api.dropConnections();
  api.put(collection, named('b'));
  api.remove(collection, 'a');
  api.compact();
  await until('the change is seen by a list', () => last() === 'b=');
  t.is(count(aList), 2);
  await until('a new watch', () => api.watchCount === 1);
  let refusals = 1;
  api.interfere = (request) => {
    if (!aWatch.test(request) || refusals === 0) return undefined;
    refusals -= 1;
    return { status: 410 };
  };
  api.endWatches();
  await until('another list', () => count(aList) === 3);
});

test('bookmarks move the version on, so that a compacted history needs no list', async (t) => {
  const { api, last, count } = await follow(t);
  api.put('/api/v1/namespaces/storage/secrets', named('other'));
  api.bookmark();
  api.put(collection, named('b'));
  await until('b is seen', () => last() === 'a= b=');
  api.put('/api/v1/namespaces/storage/secrets', named('another'));
  api.compact();
  api.bookmark();
  // An event after the bookmark proves that the bookmark was read.
  api.put(collection, named('c'));
  await until('c is seen', () => last() === 'a= b= c=');
  api.endWatches();
  await until('a new watch', () => api.watchCount === 1);
  t.is(count(aList), 1);
});

test('while the API server is away the last list stays, and changes of that time are found afterwards', async (t) => {
  const { api, port, seen, last, messages } = await follow(t);
  const before = seen.length;
  await api.stop();
  await until('the loss is logged', () => messages.join('').includes('did not answer'));
  t.is(seen.length, before);
  api.put(collection, named('b'));
  await api.restart(port);
  await until('b is seen', () => last() === 'a= b=');
  await until('the restoration is logged', () => messages.join('').includes('watch restored'));
});

test('refusals are repeated with growing pauses and logged once', async (t) => {
  const { api, messages, last, count } = await follow(t);
  api.interfere = () => ({ status: 403 });
  api.endWatches();
  await until('several refusals', () => count(aWatch) > 5);
  api.interfere = () => undefined;
  api.put(collection, named('b'));
  await until('b is seen', () => last() === 'a= b=');
  t.is(messages.filter((line) => line.includes('did not answer')).length, 1);
});

test('a watch on which nothing arrives is replaced after its time, since the connection may be dead', async (t) => {
  const { api, last, count, messages } = await follow(t, { watchMs: 50 });
  await until('several watches', () => count(aWatch) > 3);
  api.put(collection, named('b'));
  await until('b is seen', () => last() === 'a= b=');
  t.is(count(aList), 1);
  t.deepEqual(messages, []);
});

test('an event that cannot be read is followed by a list, since it may have been a change', async (t) => {
  for (const line of ['{"type":"ADDED","object":{}}', 'no json', '{"type":"NEW","object":{}}']) {
    const { api, count } = await follow(t);
    api.sendToWatches(line);
    await until(`a list after ${line}`, () => count(aList) === 2);
  }
  t.pass();
});

test('a slow answer is given up and asked for again', async (t) => {
  const { api, last, count } = await follow(t, { timeoutMs: 100 });
  api.dropConnections();
  api.put(collection, named('b'));
  api.compact();
  api.delayMs = 300;
  await until('two lists were given up', () => count(aList) >= 3);
  t.is(last(), 'a=', 'the last list stays meanwhile');
  api.delayMs = 0;
  await until('b is seen', () => last() === 'a= b=');
});

test('nothing is asked after close', async (t) => {
  const { api, seen, following } = await follow(t);
  following.close();
  await until('the watch has ended', () => api.watchCount === 0);
  const { length } = api.requests;
  const changes = seen.length;
  api.put(collection, named('b'));
  t.is(api.requests.length, length);
  t.is(seen.length, changes);
});
