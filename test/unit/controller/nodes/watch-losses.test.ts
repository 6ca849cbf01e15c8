import test, { type ExecutionContext } from 'ava';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { LossCheck, type LossOptions } from '../../../../src/controller/nodes/watch-losses.ts';
import { nodeTagOf, volumeIdFor } from '../../../../src/ids.ts';
import { startTestController } from '../../../helpers/controller.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';
import { startFakeAgent } from '../../../helpers/fake-agent.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';

const minuteMs = 60_000;
const volumes = '/api/v1/persistentvolumes';
const nodes = '/api/v1/nodes';

function volumeOn(node: string, name: string, driver = 'loopcsi.io') {
  return {
    metadata: { name },
    spec: {
      csi: { driver, volumeHandle: volumeIdFor(name, nodeTagOf(node)) },
      claimRef: { namespace: 'shop', name: `claim-of-${name}`, uid: `uid-${name}` },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'topology.loopcsi.io/node', values: [node] }] },
          ],
        },
      },
    },
  };
}

/** A controller with one node that is ready, a cluster in which n7 does not answer, and a clock. */
async function begin(t: ExecutionContext, options: Partial<LossOptions> = {}) {
  const api = await FakeKubeApi.start();
  t.teardown(() => api.stop());
  const client = makeKubeClient(api.access);
  t.teardown(client.close);
  const agent = await startFakeAgent(t, 'n8');
  const controller = await startTestController(t, [agent]);
  await controller.until('n8', 'ready');
  for (const name of ['n7', 'n8']) api.put(nodes, { metadata: { name } });
  api.put(volumes, volumeOn('n7', 'v1'));
  api.put(volumes, volumeOn('n8', 'v2'));
  api.put(volumes, volumeOn('n7', 'v3', 'other.io'));
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  const { log } = memoryLog();
  const { agents, records } = controller.running;
  const make = () =>
    new LossCheck({
      ...{ client, driverName: 'loopcsi.io', agents, records, log, instance: 'pod-1' },
      ...{ policy: 'forget', afterDeletedMs: 30 * minuteMs, hasEvents: true, now: () => nowMs },
      ...options,
    });
  let check = make();
  return {
    ...{ api, agent, controller, agents, records },
    /** A round after this time. */
    after: async (minutes: number) => {
      nowMs += minutes * minuteMs;
      controller.advance(minutes * minuteMs);
      await check.run(new AbortController().signal);
    },
    restart: () => {
      check = make();
    },
    isForgotten: () => agents.isForgotten(nodeTagOf('n7')),
    events: () => api.requests.filter((one) => one === 'POST /api/v1/namespaces/shop/events'),
    event: () => {
      const created = api.all('/api/v1/namespaces/shop/events');
      return created.at(-1) as
        | { readonly reason?: string; readonly message?: string; readonly involvedObject?: object }
        | undefined;
    },
  };
}

test('a node that is only unreachable is never forgotten, its claims get one event an hour with the command', async (t) => {
  const { after, isForgotten, events, event, restart, api } = await begin(t);
  await after(1);
  t.deepEqual(
    api.requests.filter((one) => one.includes('/nodes/')),
    [],
    'agents may still connect',
  );
  await after(4);
  t.is(events().length, 0, 'not yet unreachable for long');
  await after(6);
  t.like(event(), {
    type: 'Warning',
    reason: 'NodeUnreachable',
    involvedObject: {
      kind: 'PersistentVolumeClaim',
      namespace: 'shop',
      name: 'claim-of-v1',
      uid: 'uid-v1',
    },
  });
  t.regex(event()?.message ?? '', /node 'n7'.*not lost.*kubectl loopcsi node forget n7;/);
  await after(10);
  t.is(events().length, 1);
  restart();
  await after(10);
  t.is(events().length, 2, 'another leader tries, and the API server has it');
  t.is(api.all('/api/v1/namespaces/shop/events').length, 1);
  for (let round = 0; round < 20; round += 1) await after(60);
  t.false(isForgotten());
});

test('policy forget: the Node object is deleted for 30 minutes, over a restart of the controller', async (t) => {
  const { after, isForgotten, restart, api, event, records } = await begin(t);
  await after(5);
  api.remove(nodes, 'n7');
  await after(2);
  t.is(event()?.reason, 'NodeDeleted');
  t.is(records.all()[0]?.objectDeletedAt, '2026-01-01T00:07:00.000Z');
  await after(20);
  restart();
  await after(15);
  t.false(isForgotten(), 'a check alone is not enough');
  await after(2);
  t.true(isForgotten());
  t.is(records.all()[0]?.forgotten?.by, 'policy');
  t.true(
    api.requests.every((one) => !/^(?:DELETE|PUT|PATCH)/.test(one)),
    'nothing is deleted',
  );
});

test('policy forget: a Node that comes back ends the time, and a deletion begins it anew', async (t) => {
  const { after, isForgotten, api, records } = await begin(t);
  api.remove(nodes, 'n7');
  await after(5);
  await after(20);
  api.put(nodes, { metadata: { name: 'n7' } });
  await after(9);
  t.deepEqual(records.all(), []);
  api.remove(nodes, 'n7');
  await after(2);
  await after(28);
  t.false(isForgotten());
  await after(3);
  t.true(isForgotten());
});

test('policy keep: nothing is forgotten or recorded, and the event names the deletion', async (t) => {
  const { after, isForgotten, api, records, event } = await begin(t, { policy: 'keep' });
  api.remove(nodes, 'n7');
  for (let round = 0; round < 5; round += 1) await after(60);
  t.false(isForgotten());
  t.deepEqual(records.all(), []);
  t.is(event()?.reason, 'NodeDeleted');
});

test('policy forget: a node whose agent is ready stays, although its Node object does not exist', async (t) => {
  const { after, api, agents, records, agent, controller } = await begin(t);
  api.remove(nodes, 'n8');
  for (let round = 0; round < 5; round += 1) await after(60);
  t.false(agents.isForgotten(nodeTagOf('n8')));
  await agent.cut();
  await controller.until('n8', 'unreachable');
  await after(1);
  await after(5);
  t.truthy(records.all().find(({ name }) => name === 'n8')?.objectDeletedAt);
  await agent.restore();
  await controller.until('n8', 'ready');
  await after(60);
  t.is(
    records.all().find(({ name }) => name === 'n8'),
    undefined,
    'the time begins anew',
  );
});

for (const { name, status } of [
  { name: 'is not allowed', status: 403 },
  { name: 'is down', status: 500 },
]) {
  test(`an API server that ${name} is no deletion`, async (t) => {
    const { after, isForgotten, api, events } = await begin(t);
    api.interfere = (request) =>
      request.startsWith('GET /api/v1/nodes/') ? { status } : undefined;
    for (let round = 0; round < 5; round += 1) await after(60);
    t.false(isForgotten());
    t.deepEqual(events(), []);
  });
}

test('without events none is created', async (t) => {
  const { after, events } = await begin(t, { hasEvents: false });
  for (let round = 0; round < 3; round += 1) await after(60);
  t.deepEqual(events(), []);
});

test('a forgotten node gets no event', async (t) => {
  const { after, events, controller } = await begin(t);
  await controller.nodes.ForgetNode({ name: 'n7', force: true });
  for (let round = 0; round < 3; round += 1) await after(60);
  t.deepEqual(events(), []);
});
