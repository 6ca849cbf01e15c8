import test from 'ava';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import {
  aCapability,
  endOf,
  forgottenText,
  memoryNodeStore,
  startTestController,
  type TestController,
} from '../../helpers/controller.ts';
import { type FakeAgent, startFakeAgent } from '../../helpers/fake-agent.ts';

const create = ({ controller }: TestController, name: string, more = {}) =>
  controller.CreateVolume({ name, volume_capabilities: [aCapability], ...more });

const everywhere = (agents: readonly FakeAgent[]) => {
  const requisite = agents.map(({ hello }) => ({ segments: hello.segments }));
  return { accessibility_requirements: { requisite, preferred: requisite } };
};

const holders = (agents: readonly FakeAgent[], name: string) =>
  agents.filter(({ tag, volumes }) => volumes.has(volumeIdFor(name, tag))).map((one) => one.nodeId);

async function startThree(t: Parameters<typeof startTestController>[0]) {
  const agents = [
    await startFakeAgent(t, 'node-a'),
    await startFakeAgent(t, 'node-b'),
    await startFakeAgent(t, 'node-c'),
  ] as const;
  const started = await startTestController(t, agents);
  for (const { nodeId } of agents) await started.until(nodeId, 'ready');
  return { agents, started };
}

test('one candidate: its agent is asked, and nothing else', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b] = agents;
  const { volume } = await create(started, 'v', everywhere([b]));
  t.is(volume?.volume_id, volumeIdFor('v', b.tag));
  t.deepEqual([a.calls, b.calls], [[], ['CreateVolume']]);
});

test('several candidates: the preferred one, the next if it is full, and always the one that has the volume', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b, c] = agents;
  a.room = 0;
  t.is((await create(started, 'v', everywhere(agents))).volume?.volume_id, volumeIdFor('v', b.tag));
  a.room = 5;
  t.is(
    (await create(started, 'v', everywhere([c, a, b]))).volume?.volume_id,
    volumeIdFor('v', b.tag),
  );
  t.deepEqual(holders(agents, 'v'), ['node-b']);
  for (const agent of agents) agent.room = 0;
  t.is((await endOf(create(started, 'w', everywhere(agents)))).code, 'RESOURCE_EXHAUSTED');
});

test('without topology, names spread over the nodes, and a repeated call finds its volume', async (t) => {
  const { agents, started } = await startThree(t);
  const names = Array.from({ length: 30 }, (_, index) => `v${index}`);
  for (const name of names) await create(started, name);
  for (const name of names) await create(started, name);
  for (const name of names) t.is(holders(agents, name).length, 1);
  for (const { volumes, nodeId } of agents) t.true(volumes.size > 0, nodeId);
});

test('without topology, an order of the operator decides, and the next node is taken only if the first is full', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b, c] = agents;
  started.discovery.set(
    [c, a, b].map(({ address }, rank) => ({
      address,
      rank,
      isServing: true,
      isTerminating: false,
    })),
  );
  const names = Array.from({ length: 10 }, (_, index) => `v${index}`);
  for (const name of names) await create(started, name);
  t.deepEqual([a.volumes.size, b.volumes.size, c.volumes.size], [0, 0, 10]);
  c.room = 0;
  await create(started, 'v10');
  await create(started, 'v1');
  t.deepEqual([a.volumes.size, b.volumes.size, c.volumes.size], [1, 0, 10]);
  // A caller that asks for a topology chooses itself.
  await create(started, 'w', everywhere([b, a]));
  t.deepEqual(holders(agents, 'w'), ['node-b']);
});

test('a node that may have made the volume is asked again before any other', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b] = agents;
  a.mishap = (rpc) => (rpc === 'CreateVolume' ? 'fail after' : undefined);
  t.is((await endOf(create(started, 'v', everywhere([a, b])))).code, 'UNAVAILABLE');
  await a.cut();
  await started.until('node-a', 'unreachable');
  started.advance(200_000);
  const again = await endOf(create(started, 'v', everywhere([a, b])));
  t.is(again.code, 'UNAVAILABLE');
  t.regex(again.message, /^node 'node-a'/);
  // Another name does not wait for a node that has been unreachable for long.
  t.is((await create(started, 'w', everywhere([a, b]))).volume?.volume_id, volumeIdFor('w', b.tag));
  a.mishap = () => undefined;
  await a.restore();
  await started.until('node-a', 'ready');
  await create(started, 'v', everywhere([a, b]));
  t.deepEqual(holders(agents, 'v'), ['node-a']);
});

test('a candidate that is unreachable may have the volume, and is waited for until it is unreachable for long', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b] = agents;
  await a.cut();
  await started.until('node-a', 'unreachable');
  t.is((await endOf(create(started, 'v', everywhere([a, b])))).code, 'UNAVAILABLE');
  started.advance(181_000);
  t.is((await create(started, 'v', everywhere([a, b]))).volume?.volume_id, volumeIdFor('v', b.tag));
});

test('a copy is made on the node of its source, and refused with both nodes if that is no candidate', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b, c] = agents;
  const from = (id: string) => ({
    volume_content_source: { type: 'snapshot', snapshot: { snapshot_id: id } } as const,
  });
  const onC = snapshotIdFor('s', c.tag);
  const { volume } = await create(started, 'v', { ...everywhere(agents), ...from(onC) });
  t.is(volume?.volume_id, volumeIdFor('v', c.tag));
  const { code, message } = await endOf(
    create(started, 'w', { ...everywhere([a, b]), ...from(onC) }),
  );
  t.is(code, 'RESOURCE_EXHAUSTED');
  t.regex(message, /is on node 'node-c', and the request asks for 'node-a', 'node-b'/);
  const only = await endOf(create(started, 'w', { ...everywhere([a]), ...from(onC) }));
  t.is(only.code, 'RESOURCE_EXHAUSTED');
  t.regex(
    only.message,
    /is on node 'node-c', and the request asks for 'node-a'; .*create it there/,
  );
  await c.cut();
  await started.until('node-c', 'unreachable');
  const whileUnreachable = await endOf(create(started, 'w', { ...everywhere([a]), ...from(onC) }));
  t.is(whileUnreachable.code, 'RESOURCE_EXHAUSTED');
  t.regex(
    whileUnreachable.message,
    /is on node 'node-c'.*node 'node-c' \(tag \w+\) has been unreachable for/,
  );
  const onUnknown = from(snapshotIdFor('s', nodeTagOf('node-x')));
  const unnamed = await endOf(create(started, 'w', { ...everywhere([a]), ...onUnknown }));
  t.deepEqual(unnamed, {
    code: 'RESOURCE_EXHAUSTED',
    message: `its source is on the node with tag ${nodeTagOf('node-x')}`,
  });
  t.is(
    (await endOf(create(started, 'w', { ...everywhere([a, b]), ...onUnknown }))).code,
    'UNAVAILABLE',
  );
  const malformed = await endOf(create(started, 'w', { ...everywhere([a, b]), ...from('no id') }));
  t.deepEqual(malformed, { code: 'NOT_FOUND', message: "snapshot 'no id' does not exist" });
});

test('a copy whose source was on a forgotten node ends with NOT_FOUND, so that no other node is tried', async (t) => {
  const a = await startFakeAgent(t, 'node-a');
  const b = await startFakeAgent(t, 'node-b');
  const nodeStore = memoryNodeStore(forgottenText('node-x'));
  const started = await startTestController(t, [a, b], { nodeStore });
  for (const { nodeId } of [a, b]) await started.until(nodeId, 'ready');
  const id = snapshotIdFor('s', nodeTagOf('node-x'));
  const source = {
    volume_content_source: { type: 'snapshot', snapshot: { snapshot_id: id } } as const,
  };
  for (const candidates of [[a], [a, b]])
    t.deepEqual(await endOf(create(started, 'v', { ...everywhere(candidates), ...source })), {
      code: 'NOT_FOUND',
      message: `snapshot '${id}' does not exist`,
    });
});

test('no node has the topology: later, and elsewhere once all nodes have had time to appear', async (t) => {
  const { started } = await startThree(t);
  const request = {
    accessibility_requirements: {
      requisite: [{ segments: { 'topology.loopcsi.io/node': 'node-x' } }],
      preferred: [],
    },
  };
  t.is((await endOf(create(started, 'v', request))).code, 'UNAVAILABLE');
  started.advance(121_000);
  const { code, message } = await endOf(create(started, 'v', request));
  t.is(code, 'RESOURCE_EXHAUSTED');
  t.regex(message, /no node with the topology topology\.loopcsi\.io\/node=node-x/);
});

test('an address that has never answered keeps a volume from being created only while it has not been unreachable for long', async (t) => {
  const { agents, started } = await startThree(t);
  const never = await startFakeAgent(t, 'node-never');
  await never.cut();
  started.discovery.set([...agents, never].map(({ address }) => address));
  await started.until(never.address, 'unreachable');
  started.advance(181_000);
  const names = Array.from({ length: 10 }, (_, index) => `v${index}`);
  for (const name of names)
    t.deepEqual(await endOf(create(started, name)), { code: 'OK', message: '' });
});

test('a copy is made although its node tells something new while the candidates are asked', async (t) => {
  const { agents, started } = await startThree(t);
  const [, , c] = agents;
  const { tag } = c;
  c.before = async (rpc) => {
    // The discovery names the same agents again, so that the nodes are put together anew.
    if (rpc === 'ControllerGetVolume') started.discovery.set(agents.map((one) => one.address));
  };
  const source = { type: 'snapshot', snapshot: { snapshot_id: snapshotIdFor('s', tag) } } as const;
  const { volume } = await create(started, 'v', {
    ...everywhere(agents),
    volume_content_source: source,
  });
  t.is(volume?.volume_id, volumeIdFor('v', tag));
});

test('a ready node that cannot say what it has is waited for with its reason, and passed over after three minutes', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b] = agents;
  a.mishap = (rpc) => (rpc === 'ControllerGetVolume' ? 'fail before' : undefined);
  const request = everywhere([a, b]);
  const first = await endOf(create(started, 'v', request));
  t.is(first.code, 'UNAVAILABLE');
  t.regex(
    first.message,
    /^node 'node-a' \(tag [0-9a-f]{8}\) does not say whether it has volume 'v': ./,
  );
  // One failure long ago says nothing about the time since.
  started.advance(200_000);
  t.is((await endOf(create(started, 'v', request))).code, 'UNAVAILABLE');
  started.advance(100_000);
  t.is((await endOf(create(started, 'v', request))).code, 'UNAVAILABLE');
  started.advance(100_000);
  t.is((await create(started, 'v', request)).volume?.volume_id, volumeIdFor('v', b.tag));
});

test('a node that may have made the volume is waited for also when it is no candidate any more', async (t) => {
  const { agents, started } = await startThree(t);
  const [a, b, c] = agents;
  a.mishap = (rpc) => (rpc === 'CreateVolume' ? 'fail after' : undefined);
  t.is((await endOf(create(started, 'v', everywhere([a, b])))).code, 'UNAVAILABLE');
  const there = await endOf(create(started, 'v', everywhere([b])));
  t.is(there.code, 'UNAVAILABLE');
  t.regex(there.message, /was made on node 'node-a' .*which the request does not allow/);
  await a.cut();
  started.discovery.set([b.address, c.address]);
  started.advance(601_000);
  for (const request of [everywhere([b]), everywhere([b, c]), {}]) {
    const { code, message } = await endOf(create(started, 'v', request));
    t.is(code, 'UNAVAILABLE');
    t.regex(message, /may have been made on the node with tag/);
  }
  await a.restore();
  a.volumes.clear();
  started.discovery.set(agents.map(({ address }) => address));
  await started.until('node-a', 'ready');
  await create(started, 'v', everywhere([b]));
  t.deepEqual(holders(agents, 'v'), ['node-b']);
});
