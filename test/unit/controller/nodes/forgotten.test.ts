/** A node is lost, forgotten, returns and is remembered, at the controller's socket. */
import test from 'ava';
import { pollUntil } from '../../../../src/async.ts';
import { NodeRecords } from '../../../../src/controller/nodes/records.ts';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../../src/ids.ts';
import {
  aCapability,
  endOf,
  forgottenText,
  memoryNodeStore,
  startTestController,
  type TestController,
} from '../../../helpers/controller.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';
import { startFakeAgent } from '../../../helpers/fake-agent.ts';

const longAbsentMs = 11 * 60_000;

async function rowOf({ nodes }: TestController, name: string) {
  return (await nodes.ListNodes({})).nodes.find((node) => node.name === name);
}

const untilState = async (controller: TestController, name: string, state: string) =>
  pollUntil(async () => (await rowOf(controller, name))?.state === state, {
    timeoutMs: 60_000,
    pauseMs: 10,
  });

test('lost, forgotten, returned, remembered: what every controller with the same records answers', async (t) => {
  const store = memoryNodeStore();
  const lost = await startFakeAgent(t, 'n7', { hello: { volume_count: { value: 2n } } });
  const other = await startFakeAgent(t, 'n8');
  const one = await startTestController(t, [lost, other], { nodeStore: store });
  const two = await startTestController(t, [lost, other], { nodeStore: store });
  for (const { until } of [one, two]) {
    await until('n7', 'ready');
    await until('n8', 'ready');
  }
  const { volume } = await one.controller.CreateVolume({
    name: 'v',
    volume_capabilities: [aCapability],
    accessibility_requirements: { requisite: [{ segments: lost.hello.segments }], preferred: [] },
  });
  const volume_id = volume?.volume_id ?? '';
  t.is(volume_id, volumeIdFor('v', lost.tag));
  t.like(await rowOf(one, 'n7'), {
    tag: lost.tag,
    state: 'ready',
    version: '1.0.0',
    pools: ['default'],
    volume_count: { value: 2n },
    addresses: [lost.address],
    forgotten_at: null,
  });

  const ready = await endOf(one.nodes.ForgetNode({ name: 'n7' }));
  t.is(ready.code, 'FAILED_PRECONDITION');
  t.regex(ready.message, /node 'n7' is ready.*force/);
  await lost.cut();
  for (const { until } of [one, two]) await until('n7', 'unreachable');
  const restarting = await endOf(one.nodes.ForgetNode({ name: 'n7' }));
  t.is(restarting.code, 'FAILED_PRECONDITION', restarting.message);
  for (const { advance } of [one, two]) advance(longAbsentMs);
  const unreachable = await endOf(one.controller.DeleteVolume({ volume_id }));
  t.is(unreachable.code, 'UNAVAILABLE');
  t.regex(
    unreachable.message,
    /its data is not lost.*if it never comes back: loopcsi node forget n7$/,
  );

  t.like(await one.nodes.ForgetNode({ name: 'n7' }), { was_forgotten: false, was_known: true });
  t.like(await one.nodes.ForgetNode({ name: 'n7' }), { was_forgotten: true });
  for (const { controller, nodes } of [one, two]) {
    t.is((await endOf(controller.DeleteVolume({ volume_id }))).code, 'OK');
    t.is((await endOf(controller.ControllerGetVolume({ volume_id }))).code, 'NOT_FOUND');
    t.is((await endOf(controller.ListVolumes({}))).code, 'OK', 'lists are complete without it');
    t.is((await endOf(controller.ControllerGetVolumeHealth({ volume_id }))).code, 'NOT_FOUND');
    const row = (await nodes.ListNodes({})).nodes.find(({ name }) => name === 'n7');
    t.like(row, { state: 'forgotten', tag: lost.tag });
    t.truthy(row?.forgotten_at);
  }

  await lost.restore();
  for (const controller of [one, two]) {
    t.true(await untilState(controller, 'n7', 'refused'));
    t.regex((await rowOf(controller, 'n7'))?.reason ?? '', /loopcsi node remember n7/);
    t.is(controller.running.agents.countStates().get('refused'), 1);
    const created = await endOf(
      controller.controller.CreateVolume({
        name: 'w',
        volume_capabilities: [aCapability],
        accessibility_requirements: {
          requisite: [{ segments: lost.hello.segments }],
          preferred: [],
        },
      }),
    );
    t.is(created.code, 'RESOURCE_EXHAUSTED');
    const warnings = controller.lines.filter((line) =>
      line.includes('a forgotten node was refused'),
    );
    t.is(warnings.length, 1, 'once');
  }
  const calls = lost.calls.length;
  await one.controller.DeleteVolume({ volume_id });
  t.is(lost.calls.length, calls, 'its data stays');
  t.true(lost.volumes.has(volume_id));

  t.like(await two.nodes.RememberNode({ name: 'n7' }), { was_forgotten: true });
  t.like(await two.nodes.RememberNode({ name: 'n7' }), { was_forgotten: false });
  for (const { controller, until } of [one, two]) {
    await until('n7', 'ready');
    t.is((await controller.ControllerGetVolume({ volume_id })).volume?.volume_id, volume_id);
  }
});

test('force also forgets a node that is ready, and its agent gets no further call', async (t) => {
  const agent = await startFakeAgent(t, 'n7');
  const controller = await startTestController(t, [agent]);
  await controller.until('n7', 'ready');
  await controller.nodes.ForgetNode({ name: 'n7', force: true });
  t.is((await rowOf(controller, 'n7'))?.state, 'refused');
  const snapshot_id = snapshotIdFor('s', agent.tag);
  t.is((await endOf(controller.controller.DeleteSnapshot({ snapshot_id }))).code, 'OK');
  t.deepEqual(agent.calls, []);
});

test('a controller that never saw the node forgets it by its name', async (t) => {
  const agent = await startFakeAgent(t, 'n8');
  const controller = await startTestController(t, [agent]);
  await controller.until('n8', 'ready');
  const volume_id = volumeIdFor('v', nodeTagOf('n7'));
  const unknown = await endOf(controller.controller.DeleteVolume({ volume_id }));
  t.is(unknown.code, 'UNAVAILABLE');
  t.regex(unknown.message, /loopcsi node forget NODE/);
  const early = await endOf(controller.nodes.ForgetNode({ name: 'n7' }));
  t.is(early.code, 'FAILED_PRECONDITION');
  t.regex(early.message, /knows the agents for \d+ s only/);
  controller.advance(121_000);
  t.like(await controller.nodes.ForgetNode({ name: 'n7' }), { was_known: false });
  t.is((await endOf(controller.controller.DeleteVolume({ volume_id }))).code, 'OK');
  t.like(await rowOf(controller, 'n7'), { state: 'forgotten', addresses: [], pools: [] });
});

test('after a restart, the address of a forgotten node does not make lists incomplete', async (t) => {
  const store = memoryNodeStore();
  const lost = await startFakeAgent(t, 'n7');
  const other = await startFakeAgent(t, 'n8');
  const before = await startTestController(t, [lost, other], { nodeStore: store });
  await before.until('n7', 'ready');
  await lost.cut();
  await before.until('n7', 'unreachable');
  before.advance(longAbsentMs);
  await before.nodes.ForgetNode({ name: 'n7' });
  await before.running.stop();
  const after = await startTestController(t, [lost, other], { nodeStore: store });
  await after.until('n8', 'ready');
  t.is((await endOf(after.controller.ListVolumes({}))).code, 'OK');
  await lost.restore();
  t.true(await untilState(after, 'n7', 'refused'));
  await after.nodes.RememberNode({ name: 'n7' });
  await after.until('n7', 'ready');
});

test('another node at the address of a forgotten one is that other node', async (t) => {
  const store = memoryNodeStore();
  const agent = await startFakeAgent(t, 'n9');
  const forgotten = { at: new Date().toISOString(), by: 'operator', addresses: [agent.address] };
  store.text = JSON.stringify({ schemaVersion: 1, nodes: [{ name: 'n7', forgotten }] });
  const controller = await startTestController(t, [agent], { nodeStore: store });
  await controller.until('n9', 'ready');
  t.is((await rowOf(controller, 'n7'))?.state, 'forgotten');
});

test('a node at the address of a forgotten one is not hidden while it has not answered after a restart', async (t) => {
  const store = memoryNodeStore();
  const agent = await startFakeAgent(t, 'n9');
  const forgotten = { at: new Date().toISOString(), by: 'operator', addresses: [agent.address] };
  store.text = JSON.stringify({ schemaVersion: 1, nodes: [{ name: 'n7', forgotten }] });
  const before = await startTestController(t, [agent], { nodeStore: store });
  await before.until('n9', 'ready');
  const isGivenUp = (): boolean => store.text?.includes(agent.address) === false;
  t.true(await pollUntil(isGivenUp, { timeoutMs: 60_000, pauseMs: 5 }));
  t.is((await rowOf(before, 'n7'))?.state, 'forgotten');
  await before.running.stop();
  await agent.cut();
  const after = await startTestController(t, [agent], { nodeStore: store });
  await after.until(agent.address, 'unreachable');
  t.is((await endOf(after.controller.ListVolumes({}))).code, 'UNAVAILABLE');
});

test('an address is given up as soon as the records can be written again', async (t) => {
  const memory = memoryNodeStore();
  let failures = 1;
  const store = {
    ...memory,
    update: async (change: (text: string | undefined) => string) => {
      failures -= 1;
      if (failures >= 0) throw new Error('the API server does not answer');
      return memory.update(change);
    },
  };
  const address = '10.0.0.7:9737';
  const forgotten = { at: new Date().toISOString(), by: 'operator', addresses: [address] };
  memory.text = JSON.stringify({ schemaVersion: 1, nodes: [{ name: 'n7', forgotten }] });
  const { log } = memoryLog();
  const records = new NodeRecords({ store, log, retryMs: 5 });
  t.teardown(() => {
    records.close();
  });
  records.follow(() => undefined);
  t.is(records.nameAt(address), 'n7');
  records.addressTaken(address);
  t.is(records.nameAt(address), undefined, 'at once');
  const isGivenUp = (): boolean => memory.text?.includes(address) === false;
  t.true(await pollUntil(isGivenUp, { timeoutMs: 60_000, pauseMs: 5 }));
  t.is(records.find(nodeTagOf('n7'))?.name, 'n7');
});

test('a forgotten node that returns at another address is one node, also while its earlier address is announced', async (t) => {
  const store = memoryNodeStore();
  const gone = await startFakeAgent(t, 'n7');
  await gone.cut();
  const forgotten = { at: new Date().toISOString(), by: 'operator', addresses: [gone.address] };
  store.text = JSON.stringify({ schemaVersion: 1, nodes: [{ name: 'n7', forgotten }] });
  const returned = await startFakeAgent(t, 'n7');
  const controller = await startTestController(t, [gone, returned], { nodeStore: store });
  t.true(await untilState(controller, 'n7', 'refused'));
  const rows = (await controller.nodes.ListNodes({})).nodes;
  t.deepEqual(
    rows.map(({ name }) => name),
    ['n7'],
  );
  t.regex(rows[0]?.reason ?? '', /has returned after it was forgotten/);
  await controller.nodes.RememberNode({ name: 'n7' });
  await controller.until('n7', 'ready');
});

test('a change of an agent builds no list of all nodes, also when a node is forgotten', async (t) => {
  const store = memoryNodeStore(forgottenText('n7'));
  const agents = await Promise.all(['n7', 'n8', 'n9'].map(async (id) => startFakeAgent(t, id)));
  const controller = await startTestController(t, agents, { nodeStore: store });
  const { agents: known } = controller.running;
  const isLogged = (): boolean =>
    controller.lines.filter((line) => line.includes('agent is ready')).length === 3 &&
    controller.lines.some((line) => line.includes('a forgotten node was refused'));
  t.true(await pollUntil(isLogged, { timeoutMs: 60_000, pauseMs: 5 }));
  t.is(known.listsMade, 0, 'nobody has asked for the nodes');
  t.deepEqual(
    known
      .nodes()
      .map(({ name }) => name)
      .toSorted(),
    ['n8', 'n9'],
  );
  t.is(known.listsMade, 1);
});

test('an id of a forgotten node is not called missing before all nodes have said what they have', async (t) => {
  const volume_id = volumeIdFor('v', nodeTagOf('n7'));
  const snapshot_id = snapshotIdFor('s', nodeTagOf('n7'));
  const has = await startFakeAgent(t, 'n8', { hello: { foreign_ids: [volume_id] } });
  const other = await startFakeAgent(t, 'n9');
  await has.cut();
  const nodeStore = memoryNodeStore(forgottenText('n7'));
  const controller = await startTestController(t, [has, other], { nodeStore });
  await controller.until('n9', 'ready');
  await controller.until(has.address, 'unreachable');
  const source = { type: 'snapshot', snapshot: { snapshot_id } } as const;
  const calls = {
    DeleteVolume: () => controller.controller.DeleteVolume({ volume_id }),
    DeleteSnapshot: () => controller.controller.DeleteSnapshot({ snapshot_id }),
    CreateSnapshot: () =>
      controller.controller.CreateSnapshot({ name: 's', source_volume_id: volume_id }),
    ListSnapshots: () => controller.controller.ListSnapshots({ snapshot_id }),
    CreateVolumeGroupSnapshot: () =>
      controller.groups.CreateVolumeGroupSnapshot({
        name: 'g',
        source_volume_ids: [volume_id, volumeIdFor('w', other.tag)],
      }),
    CreateVolume: () =>
      controller.controller.CreateVolume({
        name: 'copy',
        volume_capabilities: [aCapability],
        volume_content_source: source,
        accessibility_requirements: {
          requisite: [{ segments: other.hello.segments }],
          preferred: [],
        },
      }),
  };
  for (const [rpc, call] of Object.entries(calls)) {
    const { code, message } = await endOf(call());
    t.is(code, 'UNAVAILABLE', rpc);
    t.regex(message, /unless another node has it now.*has been unreachable for/, rpc);
  }
  await has.restore();
  await controller.until('n8', 'ready');
  has.volumes.set(volume_id, {
    volume_id,
    capacity_bytes: 1n,
    volume_context: {},
    content_source: null,
    accessible_topology: [],
  });
  t.is((await endOf(controller.controller.DeleteVolume({ volume_id }))).code, 'OK');
  t.false(has.volumes.has(volume_id));
  t.is((await endOf(controller.controller.DeleteSnapshot({ snapshot_id }))).code, 'OK');
  await has.cut();
  await controller.until('n8', 'unreachable');
  const after = await endOf(controller.controller.DeleteSnapshot({ snapshot_id }));
  t.is(after.code, 'OK', 'what a node said stays known while it is unreachable');
});

test('a node that may be one whose agent has not spoken yet is forgotten by force only', async (t) => {
  const silent = await startFakeAgent(t, 'n7');
  silent.hang();
  const timings = { connectTimeoutMs: 600_000, helloTimeoutMs: 600_000 };
  const controller = await startTestController(t, [silent], { timings });
  controller.advance(longAbsentMs);
  const refused = await endOf(controller.nodes.ForgetNode({ name: 'n7' }));
  t.is(refused.code, 'FAILED_PRECONDITION');
  t.regex(
    refused.message,
    /the agent at '[\d.:]+', which .* is being connected for the first time/,
  );
  const forced = await controller.nodes.ForgetNode({ name: 'n7', force: true });
  t.like(forced, { was_forgotten: false, was_known: false });
});

test('an agent that was never seen is forgotten by its address and the id of its node', async (t) => {
  const agent = await startFakeAgent(t, 'n7');
  const other = await startFakeAgent(t, 'n8');
  await agent.cut();
  const { address } = agent;
  const controller = await startTestController(t, [agent, other]);
  await controller.until(address, 'unreachable');
  await controller.until('n8', 'ready');
  const hint = new RegExp(`loopcsi node forget NODE --address ${address}$`);
  t.regex((await endOf(controller.controller.ListVolumes({}))).message, hint);
  t.regex((await rowOf(controller, address))?.reason ?? '', hint);
  const forget = (addresses: readonly string[], name = 'n7') =>
    controller.nodes.ForgetNode({ name, addresses: [...addresses] });
  const byAddress = await endOf(forget([], address));
  t.is(byAddress.code, 'INVALID_ARGUMENT');
  t.regex(byAddress.message, /--address/);
  for (const wrong of [other.address, '10.0.0.99:9737'])
    t.is((await endOf(forget([wrong]))).code, 'INVALID_ARGUMENT');
  controller.advance(longAbsentMs);
  t.like(await forget([]), { was_forgotten: false });
  t.is((await endOf(controller.controller.ListVolumes({}))).code, 'UNAVAILABLE');
  t.like(await forget([address]), { was_forgotten: true });
  t.like(await forget([address]), { was_forgotten: true });
  t.is((await endOf(controller.controller.ListVolumes({}))).code, 'OK');
  t.like(await rowOf(controller, 'n7'), { state: 'forgotten', addresses: [address] });
});

test('the topology of a forgotten node has no room, also while other nodes may still appear', async (t) => {
  const agent = await startFakeAgent(t, 'n7');
  await agent.cut();
  const nodeStore = memoryNodeStore(forgottenText('n7'));
  const { controller, until } = await startTestController(t, [agent], { nodeStore });
  await until(agent.address, 'unreachable');
  const { segments } = agent.hello;
  const { available_capacity } = await controller.GetCapacity({
    accessible_topology: { segments },
  });
  t.is(available_capacity, 0n);
  const created = await endOf(
    controller.CreateVolume({
      name: 'v',
      volume_capabilities: [aCapability],
      accessibility_requirements: { requisite: [{ segments }], preferred: [] },
    }),
  );
  t.is(created.code, 'RESOURCE_EXHAUSTED');
  const other = { accessible_topology: { segments: { 'topology.loopcsi.io/node': 'n8' } } };
  t.is((await endOf(controller.GetCapacity(other))).code, 'UNAVAILABLE');
});

test('whether a node was forgotten is what the records say, not what this controller has seen of them', async (t) => {
  const memory = memoryNodeStore(forgottenText('n7'));
  // Changes by others are not noticed here.
  const nodeStore = {
    ...memory,
    follow: (onText: (text: string | undefined) => void) => {
      onText(memory.text);
      return { close: () => undefined };
    },
    update: async (change: (text: string | undefined) => string) => memory.update(change),
  };
  const { nodes } = await startTestController(t, [], { nodeStore });
  memory.text = '{"schemaVersion":1,"nodes":[]}';
  t.like(await nodes.ForgetNode({ name: 'n7' }), { was_forgotten: false });
  t.regex(memory.text ?? '', /"n7"/);
});

test('names that cannot be ids are refused', async (t) => {
  const { nodes } = await startTestController(t, []);
  for (const name of ['', 'a\nb', 'x'.repeat(257)]) {
    t.is((await endOf(nodes.ForgetNode({ name }))).code, 'INVALID_ARGUMENT');
    t.is((await endOf(nodes.RememberNode({ name }))).code, 'INVALID_ARGUMENT');
  }
});

test('no call is routed before the records have been read', async (t) => {
  let deliver: (text: string | undefined) => void = () => undefined;
  const store = {
    ...memoryNodeStore(),
    follow: (onText: (text: string | undefined) => void) => {
      deliver = onText;
      return { close: () => undefined };
    },
  };
  const agent = await startFakeAgent(t, 'n7');
  const controller = await startTestController(t, undefined, { nodeStore: store });
  const list = () => endOf(controller.controller.ListVolumes({}));
  t.is((await list()).code, 'UNAVAILABLE');
  t.regex((await list()).message, /has not been read/);
  deliver('{');
  t.is((await list()).code, 'UNAVAILABLE');
  t.regex((await list()).message, /cannot be used/);
  const volume_id = volumeIdFor('v', agent.tag);
  const deleted = await endOf(controller.controller.DeleteVolume({ volume_id }));
  t.is(deleted.code, 'UNAVAILABLE');
  t.regex(deleted.message, /cannot be used/);
  t.deepEqual((await controller.identity.Probe({})).ready, { value: false });
  deliver(undefined);
  controller.discovery.set([agent.address]);
  await controller.until('n7', 'ready');
});

test('a volume for a node that has been unreachable for ten minutes is refused so that it is created elsewhere', async (t) => {
  const unreachable = await startFakeAgent(t, 'n7');
  const controller = await startTestController(t, [unreachable, await startFakeAgent(t, 'n8')]);
  await controller.until('n7', 'ready');
  await controller.until('n8', 'ready');
  await unreachable.cut();
  await controller.until('n7', 'unreachable');
  const create = (source: boolean) =>
    endOf(
      controller.controller.CreateVolume({
        name: 'v',
        volume_capabilities: [aCapability],
        accessibility_requirements: {
          requisite: [{ segments: unreachable.hello.segments }],
          preferred: [],
        },
        ...(source
          ? {
              volume_content_source: {
                type: 'snapshot',
                snapshot: { snapshot_id: snapshotIdFor('s', unreachable.tag) },
              },
            }
          : {}),
      }),
    );
  controller.advance(9 * 60_000);
  t.is((await create(false)).code, 'UNAVAILABLE');
  controller.advance(2 * 60_000);
  const end = await create(false);
  t.is(end.code, 'RESOURCE_EXHAUSTED');
  t.regex(
    end.message,
    /another node should be chosen: node 'n7' .* has been unreachable for 11 min/,
  );
  t.is((await create(true)).code, 'UNAVAILABLE', 'a copy can be made nowhere else');
  await unreachable.restore();
  await controller.until('n7', 'ready');
  t.is((await create(false)).code, 'OK');
});
