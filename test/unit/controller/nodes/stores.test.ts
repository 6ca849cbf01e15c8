import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pollUntil } from '../../../../src/async.ts';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { configMapStore } from '../../../../src/controller/nodes/config-map-store.ts';
import { FileStore } from '../../../../src/controller/nodes/file-store.ts';
import type { NodeStore } from '../../../../src/controller/nodes/node-store.ts';
import { NodeRecords } from '../../../../src/controller/nodes/records.ts';
import { parseRecords } from '../../../../src/controller/nodes/records-option.ts';
import { replaceFilePoints } from '../../../../src/host/files/replace-file.ts';
import { nodeTagOf } from '../../../../src/ids.ts';
import { forgottenText } from '../../../helpers/controller.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';

const { log } = memoryLog();
const collection = '/api/v1/namespaces/storage/configmaps';
const emptyConfigMap = { metadata: { name: 'loopcsi-nodes', labels: { a: 'b' } } };

async function scratch(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-nodes-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function startApi(t: ExecutionContext): Promise<FakeKubeApi> {
  const api = await FakeKubeApi.start();
  t.teardown(() => api.stop());
  return api;
}

function storeIn(t: ExecutionContext, api: FakeKubeApi): NodeStore {
  const client = makeKubeClient(api.access);
  t.teardown(client.close);
  return configMapStore({ client, namespace: 'storage', name: 'loopcsi-nodes', log });
}

/** Follows the records until they have been read. */
async function read(records: NodeRecords): Promise<void> {
  let isRead = false;
  records.follow(() => {
    isRead = true;
  });
  if (!(await pollUntil(() => isRead, { timeoutMs: 60_000, pauseMs: 2 })))
    throw new Error('the records were not read');
}

/** Records that have been read. */
async function followed(t: ExecutionContext, store: NodeStore): Promise<NodeRecords> {
  const records = new NodeRecords({ store, log });
  t.teardown(() => {
    records.close();
  });
  await read(records);
  return records;
}

/** The stores must behave the same. Each function opens a store on the same place. */
const kinds: Readonly<
  Record<string, (t: ExecutionContext) => Promise<() => Promise<NodeStore> | NodeStore>>
> = {
  file: async (t) => {
    const path = join(await scratch(t), 'nodes.json');
    return () => FileStore.open({ path, log, everyMs: 10 });
  },
  ConfigMap: async (t) => {
    const api = await startApi(t);
    api.put(collection, emptyConfigMap);
    return () => storeIn(t, api);
  },
};

for (const [kind, make] of Object.entries(kinds)) {
  test(`${kind}: forget and remember are durable, idempotent, and seen by another controller`, async (t) => {
    const open = await make(t);
    const [one, other] = [await followed(t, await open()), await followed(t, await open())];
    const tag = nodeTagOf('n7');
    const until = async (isForgotten: boolean) =>
      t.true(
        await pollUntil(() => (other.find(tag) !== undefined) === isForgotten, {
          timeoutMs: 60_000,
          pauseMs: 5,
        }),
      );
    t.is(one.find(tag), undefined);
    const as = { by: 'operator', addresses: ['10.0.0.7:9737'] } as const;
    t.true(await one.forget('n7', as));
    t.is(one.find(tag)?.name, 'n7', 'at once');
    t.is(one.nameAt('10.0.0.7:9737'), 'n7');
    const { at } = one.find(tag) ?? { at: '' };
    t.false(await one.forget('n7', as));
    t.is(one.find(tag)?.at, at, 'the time of the first');
    await until(true);
    t.is((await followed(t, await open())).find(tag)?.at, at, 'after a restart');
    t.false(await other.remember('n8'));
    t.true(await other.remember('n7'));
    t.false(await other.remember('n7'));
    t.is(other.find(tag), undefined);
    const again = await followed(t, await open());
    t.deepEqual(again.all(), []);
  });

  test(`${kind}: controllers that write at the same time lose nothing`, async (t) => {
    const open = await make(t);
    const store = await open();
    const writers = [await followed(t, store), await followed(t, store)];
    const names = Array.from({ length: 8 }, (_, index) => `n${index}`);
    await Promise.all(
      names.map(async (name, index) =>
        writers[index % 2]?.forget(name, { by: 'operator', addresses: [] }),
      ),
    );
    const after = await followed(t, await open());
    t.deepEqual(
      after.all().map(({ name }) => name),
      names,
    );
  });

  test(`${kind}: when the Node object was deleted survives a restart, and its return ends it`, async (t) => {
    const open = await make(t);
    let nowMs = Date.parse('2026-01-01T00:00:00Z');
    const start = async () => {
      const records = new NodeRecords({ store: await open(), log });
      t.teardown(() => {
        records.close();
      });
      await read(records);
      return records;
    };
    const one = await start();
    await one.noteObject('n7', { exists: true, atMs: nowMs });
    t.deepEqual(one.all(), []);
    await one.noteObject('n7', { exists: false, atMs: nowMs });
    nowMs += 60_000;
    await one.noteObject('n7', { exists: false, atMs: nowMs });
    const two = await start();
    t.is(two.all()[0]?.objectDeletedAt, '2026-01-01T00:00:00.000Z');
    await two.noteObject('n7', { exists: true, atMs: nowMs });
    t.deepEqual((await start()).all(), []);
  });
}

test('two ConfigMap writers: the slower one repeats its change on what the faster one wrote', async (t) => {
  const api = await startApi(t);
  api.put(collection, emptyConfigMap);
  const records = await followed(t, storeIn(t, api));
  let isFirst = true;
  api.beforeWrite = () => {
    if (!isFirst) return;
    isFirst = false;
    api.put(collection, { ...emptyConfigMap, data: { 'nodes.json': forgottenText('n1') } });
  };
  t.true(await records.forget('n2', { by: 'operator', addresses: [] }));
  t.deepEqual(
    records.all().map(({ name }) => name),
    ['n1', 'n2'],
  );
  t.like(api.find(collection, 'loopcsi-nodes'), { metadata: { labels: { a: 'b' } } });
});

test('a write whose answer was lost is done once', async (t) => {
  const api = await startApi(t);
  api.put(collection, emptyConfigMap);
  const records = await followed(t, storeIn(t, api));
  const as = { by: 'operator', addresses: [] } as const;
  api.interfere = (request) => (request.startsWith('PUT') ? 'drop-after' : undefined);
  await t.throwsAsync(records.forget('n7', as), { message: /was perhaps not written.*node list/ });
  api.interfere = () => undefined;
  await records.forget('n7', as);
  t.is(records.all().length, 1);
});

test('a controller that starts without its ConfigMap is not ready, does not create it, and says what to do', async (t) => {
  const api = await startApi(t);
  const records = new NodeRecords({ store: storeIn(t, api), log });
  t.teardown(() => {
    records.close();
  });
  let isRead = false;
  records.follow(() => {
    isRead = true;
  });
  const missing = /storage\/loopcsi-nodes does not exist.*helm upgrade/;
  const isMissing = (): boolean => missing.test(records.problem ?? '');
  t.true(await pollUntil(isMissing, { timeoutMs: 60_000, pauseMs: 5 }));
  t.false(isRead);
  await t.throwsAsync(records.forget('n7', { by: 'operator', addresses: [] }), {
    message: missing,
  });
  api.put(collection, emptyConfigMap);
  t.true(await pollUntil(() => isRead, { timeoutMs: 60_000, pauseMs: 5 }));
  t.is(records.problem, undefined);
});

test('a ConfigMap that is deleted and made again without records does not remember the nodes', async (t) => {
  const api = await startApi(t);
  api.put(collection, emptyConfigMap);
  const records = await followed(t, storeIn(t, api));
  await records.forget('n7', { by: 'operator', addresses: [] });
  const until = async (problem: RegExp) =>
    pollUntil(() => problem.test(records.problem ?? ''), { timeoutMs: 60_000, pauseMs: 5 });
  api.remove(collection, 'loopcsi-nodes');
  t.true(await until(/does not exist/));
  t.is(records.find(nodeTagOf('n7'))?.name, 'n7');
  api.put(collection, emptyConfigMap);
  t.true(await until(/has vanished or is empty/));
  t.is(records.find(nodeTagOf('n7'))?.name, 'n7');
  await records.forget('n8', { by: 'operator', addresses: [] });
  t.is(records.problem, undefined);
  const after = await followed(t, storeIn(t, api));
  t.deepEqual(after.names, ['n7', 'n8'], 'all are written again');
});

test('a file that vanishes does not remember the nodes', async (t) => {
  const path = join(await scratch(t), 'nodes.json');
  await writeFile(path, forgottenText('n7'));
  const records = await followed(t, await FileStore.open({ path, log, everyMs: 5 }));
  await rm(path);
  const isGone = (): boolean => records.problem?.includes('has vanished') === true;
  t.true(await pollUntil(isGone, { timeoutMs: 60_000, pauseMs: 5 }));
  t.is(records.find(nodeTagOf('n7'))?.name, 'n7');
  t.false(await records.forget('n7', { by: 'operator', addresses: [] }));
  t.is(records.problem, undefined);
  t.deepEqual((await followed(t, await FileStore.open({ path, log }))).names, ['n7']);
});

test('a watch that is behind does not undo an own write', async (t) => {
  const api = await startApi(t);
  api.put(collection, emptyConfigMap);
  const store = storeIn(t, api);
  api.interfere = (request) => (request.includes('watch=true') ? 'drop-before' : undefined);
  const texts: (string | undefined)[] = [];
  const follower = store.follow(
    (text) => texts.push(text),
    () => undefined,
  );
  t.teardown(() => {
    follower.close();
  });
  t.true(await pollUntil(() => texts.length === 1, { timeoutMs: 60_000, pauseMs: 2 }));
  await store.update(() => forgottenText('n1'));
  await store.update(() => forgottenText('n2'));
  api.interfere = () => undefined;
  const isThere = (): boolean => texts.at(-1) === forgottenText('n2');
  t.true(await pollUntil(isThere, { timeoutMs: 60_000, pauseMs: 2 }));
  t.deepEqual(texts, [undefined, forgottenText('n2')]);
});

for (const text of ['{', '{"schemaVersion":2,"nodes":[]}', '{"schemaVersion":1,"nodes":[{}]}']) {
  test(`a text that cannot be read is never taken for an empty one: ${text}`, async (t) => {
    const path = join(await scratch(t), 'nodes.json');
    await writeFile(path, forgottenText('n7'));
    const records = await followed(t, await FileStore.open({ path, log, everyMs: 5 }));
    await writeFile(path, text);
    t.true(await pollUntil(() => records.problem !== undefined, { timeoutMs: 60_000, pauseMs: 5 }));
    t.is(records.find(nodeTagOf('n7'))?.name, 'n7', 'the last records stay');
    await t.throwsAsync(records.forget('n8', { by: 'operator', addresses: [] }));
    t.is(await readFile(path, 'utf8'), text, 'not overwritten');

    let wasCalled = false;
    const fresh = new NodeRecords({ store: await FileStore.open({ path, log, everyMs: 5 }), log });
    t.teardown(() => {
      fresh.close();
    });
    fresh.follow(() => {
      wasCalled = true;
    });
    const isRead = (): boolean => fresh.problem?.includes('cannot be used') === true;
    t.true(await pollUntil(isRead, { timeoutMs: 60_000, pauseMs: 5 }));
    t.false(wasCalled, 'a controller that starts with it routes no call');
  });
}

for (const point of replaceFilePoints) {
  test(`a failure after ${point} leaves a whole file`, async (t) => {
    const path = join(await scratch(t), 'nodes.json');
    await writeFile(path, forgottenText('n1'));
    const reached = (at: string): void => {
      if (at === point) throw new Error('killed here');
    };
    const store = await FileStore.open({ path, log, everyMs: 5, reached });
    await t.throwsAsync(store.update(() => forgottenText('n2')));
    const expected = forgottenText(point === 'record:renamed' ? 'n2' : 'n1');
    t.is(await readFile(path, 'utf8'), expected);
  });
}

const writer = join(import.meta.dirname, '..', '..', '..', 'helpers', 'records-writer.js');

test('processes that write one file at the same time lose nothing, and one that is killed during its write keeps none from writing', async (t) => {
  t.timeout(120_000);
  const path = join(await scratch(t), 'nodes.json');
  const killed = spawn(process.execPath, [writer, path, 'hang'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => killed.kill('SIGKILL'));
  await once(killed.stdout, 'data');
  const store = await FileStore.open({ path, log });
  await t.throwsAsync(
    store.update(() => forgottenText('n0')),
    { message: /nodes\.json\.lock locked for more than 10 s; examine that process/ },
  );
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  await store.update(() => forgottenText('n0'));

  const names = (process: string): readonly string[] =>
    Array.from({ length: 20 }, (_, index) => `${process}${index}`);
  const ends = ['a', 'b', 'c'].map(async (one) => {
    const child = spawn(process.execPath, [writer, path, ...names(one)], { stdio: 'inherit' });
    await once(child, 'exit');
    return child.exitCode;
  });
  t.deepEqual(await Promise.all(ends), [0, 0, 0]);
  const after = await followed(t, await FileStore.open({ path, log }));
  t.deepEqual([...after.names].sort(), [...names('a'), ...names('b'), ...names('c'), 'n0'].sort());
});

test('without a store nothing can be forgotten, and the message names the option', async (t) => {
  const records = new NodeRecords({ store: undefined, log });
  let isReady = false;
  records.follow(() => {
    isReady = true;
  });
  t.true(isReady);
  await t.throwsAsync(records.forget('n7', { by: 'operator', addresses: [] }), {
    message: /--node-records/,
  });
});

test('a file needs its directory', async (t) => {
  const path = join(await scratch(t), 'missing', 'nodes.json');
  await t.throwsAsync(FileStore.open({ path, log }), { message: /--node-records: .*missing/ });
});

test('--node-records', (t) => {
  t.deepEqual(parseRecords('file:///var/lib/x/nodes.json'), {
    kind: 'file',
    path: '/var/lib/x/nodes.json',
  });
  t.deepEqual(parseRecords('configmap://storage/loopcsi-nodes'), {
    kind: 'configmap',
    namespace: 'storage',
    name: 'loopcsi-nodes',
  });
  for (const text of [
    '',
    '/a',
    'file://a',
    'file:///a/',
    'configmap://a',
    'configmap:///a',
    'x://a/b',
  ]) {
    t.throws(() => parseRecords(text), { message: /--node-records/ }, text);
  }
});
