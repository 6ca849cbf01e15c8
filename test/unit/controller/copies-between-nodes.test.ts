import test, { type ExecutionContext } from 'ava';
import { snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import { aCapability, endOf, startTestController } from '../../helpers/controller.ts';
import { type FakeAgent, startFakeAgent } from '../../helpers/fake-agent.ts';
import { until } from '../../helpers/until.ts';

/** Three nodes that allow copies between them. The first has a volume and a snapshot. */
async function threeNodes(t: ExecutionContext, addressless: readonly string[] = []) {
  const start = async (nodeId: string, address: string) =>
    startFakeAgent(t, nodeId, {
      hello: { peer_addresses: addressless.includes(nodeId) ? [] : [address] },
    });
  const agents = [
    await start('node-a', '10.0.0.1'),
    await start('node-b', '10.0.0.2'),
    await start('node-c', '10.0.0.3'),
  ] as const;
  const started = await startTestController(t, agents);
  for (const { nodeId } of agents) await started.until(nodeId, 'ready');
  const { controller } = started;
  const create = async (name: string, nodes: readonly FakeAgent[], more = {}) => {
    const requisite = nodes.map(({ hello }) => ({ segments: hello.segments }));
    const accessibility_requirements = { requisite, preferred: requisite };
    const volume_capabilities = [aCapability];
    return endOf(
      controller.CreateVolume({ name, volume_capabilities, accessibility_requirements, ...more }),
    );
  };
  const [a] = agents;
  await create('source', [a]);
  const source_volume_id = volumeIdFor('source', a.tag);
  await controller.CreateSnapshot({ name: 'snap', source_volume_id });
  for (const { calls } of agents) calls.length = 0;
  const sources = {
    snapshot: { type: 'snapshot', snapshot: { snapshot_id: snapshotIdFor('snap', a.tag) } },
    volume: { type: 'volume', volume: { volume_id: source_volume_id } },
  } as const;
  return {
    agents,
    started,
    create,
    copy: async (name: string, nodes: readonly FakeAgent[], kind: keyof typeof sources) =>
      create(name, nodes, { volume_content_source: sources[kind] }),
  };
}

const holders = (agents: readonly FakeAgent[], name: string) =>
  agents.filter(({ tag, volumes }) => volumes.has(volumeIdFor(name, tag))).map((one) => one.nodeId);

for (const kind of ['snapshot', 'volume'] as const) {
  test(`a ${kind} is copied to a node that asks for it: opened for its addresses, offered, made, closed`, async (t) => {
    const { agents, copy } = await threeNodes(t);
    const [a, b, c] = agents;
    t.is((await copy('v', [b], kind)).code, 'OK');
    t.deepEqual(holders(agents, 'v'), ['node-b']);
    await until('the source is closed', () => a.calls.includes('CloseSource'));
    t.deepEqual(a.calls, ['OpenSource', 'CloseSource']);
    t.deepEqual(b.calls, ['CreateVolume', 'OfferSource', 'CreateVolume']);
    t.deepEqual(c.calls, []);
    t.is(b.offers.size, 0);
    // The volume exists now, so its source is not needed.
    await a.cut();
    t.is((await copy('v', [b], kind)).code, 'OK');
  });
}

test('a snapshot has no topology if it can be copied to other nodes, and otherwise that of its node', async (t) => {
  for (const [addressless, isAnywhere] of [
    [[], true],
    [['node-b'], true],
    [['node-a'], false],
    [['node-b', 'node-c'], false],
  ] as const) {
    const { agents, started } = await threeNodes(t, addressless);
    const [a] = agents;
    const { controller } = started;
    const snapshot_id = snapshotIdFor('snap', a.tag);
    const source_volume_id = volumeIdFor('source', a.tag);
    const expected = isAnywhere ? [] : [{ segments: a.hello.segments }];
    const { snapshot } = await controller.GetSnapshot({ snapshot_id });
    t.deepEqual(snapshot?.accessible_topology, expected, `without ${addressless.join(', ')}`);
    const made = await controller.CreateSnapshot({ name: 'snap', source_volume_id });
    t.deepEqual(made.snapshot?.accessible_topology, expected);
    for (const request of [{}, { snapshot_id }, { source_volume_id }]) {
      const { entries } = await controller.ListSnapshots(request);
      t.deepEqual(
        entries.map((one) => one.snapshot?.accessible_topology),
        [expected],
      );
    }
  }
});

test('a clone that exists already is closed again, since the call that made it may not have ended', async (t) => {
  const { agents, copy } = await threeNodes(t);
  const [a, b] = agents;
  t.is((await copy('v', [b], 'volume')).code, 'OK');
  await until('the source is closed', () => a.calls.includes('CloseSource'));
  a.calls.length = 0;
  t.is((await copy('v', [b], 'volume')).code, 'OK');
  await until('the source is closed again', () => a.calls.includes('CloseSource'));
  t.deepEqual(a.calls, ['CloseSource']);
});

test('the ticket is for the addresses of the node that reads', async (t) => {
  const { agents, copy } = await threeNodes(t);
  const [a, b] = agents;
  b.mishap = (rpc) => (rpc === 'OfferSource' ? 'fail after' : undefined);
  t.is((await copy('v', [b], 'snapshot')).code, 'UNAVAILABLE');
  t.deepEqual([...b.offers.values()], [`${snapshotIdFor('snap', a.tag)} of node-a for 10.0.0.2`]);
});

test('among several candidates, the node of the source is the first, and others follow if it is full', async (t) => {
  const { agents, copy } = await threeNodes(t);
  const [a, b, c] = agents;
  t.is((await copy('v', [c, b, a], 'snapshot')).code, 'OK');
  t.deepEqual(holders(agents, 'v'), ['node-a']);
  a.room = 0;
  t.is((await copy('w', [c, b, a], 'snapshot')).code, 'OK');
  t.deepEqual(holders(agents, 'w'), ['node-c']);
  c.room = 0;
  t.is((await copy('x', [c, b, a], 'snapshot')).code, 'OK');
  t.deepEqual(holders(agents, 'x'), ['node-b']);
  b.room = 0;
  t.is((await copy('y', [c, b, a], 'snapshot')).code, 'RESOURCE_EXHAUSTED');
  t.deepEqual(holders(agents, 'y'), []);
});

test('a node that allows no copies, or is too old for them, is passed over, and refused if it is the only one', async (t) => {
  const { agents, copy } = await threeNodes(t, ['node-c']);
  const [a, b, c] = agents;
  a.room = 0;
  t.is((await copy('v', [c, b, a], 'snapshot')).code, 'OK');
  t.deepEqual(holders(agents, 'v'), ['node-b']);
  const refused = await copy('w', [c], 'snapshot');
  t.is(refused.code, 'RESOURCE_EXHAUSTED');
  t.regex(refused.message, /is on node 'node-a', and the request asks for 'node-c'/);
});

test('while the node of the source is unreachable, a copy elsewhere waits, with its name', async (t) => {
  const { agents, started, copy } = await threeNodes(t);
  const [a, b] = agents;
  await a.cut();
  await started.until('node-a', 'unreachable');
  const { code, message } = await copy('v', [b], 'snapshot');
  t.is(code, 'UNAVAILABLE');
  t.regex(
    message,
    /^volume 'v': its source, snapshot 'snap\.\w+', is on node 'node-a'; node 'node-a' .*has been unreachable/,
  );
  await a.restore();
  await started.until('node-a', 'ready');
  t.is((await copy('v', [b], 'snapshot')).code, 'OK');
});

test('a source that its node does not have is NOT_FOUND', async (t) => {
  const { agents, copy } = await threeNodes(t);
  const [a, b] = agents;
  a.snapshots.clear();
  t.deepEqual(await copy('v', [b], 'snapshot'), {
    code: 'NOT_FOUND',
    message: `snapshot '${snapshotIdFor('snap', a.tag)}' does not exist`,
  });
});
