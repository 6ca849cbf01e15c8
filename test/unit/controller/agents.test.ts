import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import test from 'ava';
import { pollUntil } from '../../../src/async.ts';
import { volumeIdFor } from '../../../src/ids.ts';
import { aCapability, endOf, startTestController } from '../../helpers/controller.ts';
import { startFakeAgent } from '../../helpers/fake-agent.ts';

const quickPings = { pingIntervalMs: 300, pingTimeoutMs: 300 };

test('an agent becomes ready, is unreachable when it is killed, and ready again', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, running, controller } = await startTestController(t, [agent]);
  await until('node-a', 'ready');
  await agent.cut();
  await until('node-a', 'unreachable');
  const request = { volume_id: volumeIdFor('v', agent.tag) };
  const { code, message } = await endOf(controller.ControllerGetVolume(request));
  t.is(code, 'UNAVAILABLE');
  t.regex(message, /^node 'node-a' \(tag [0-9a-f]{8}\) has been unreachable for \d+ s \(/);
  await agent.restore();
  await until('node-a', 'ready');
  t.is(running.agents.countStates().get('ready'), 1);
});

test('an agent that hangs is unreachable after the time limit of a ping, and its calls end then', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller } = await startTestController(t, [agent], { timings: quickPings });
  await until('node-a', 'ready');
  agent.hang();
  const { code, message } = await endOf(
    controller.ControllerGetVolume({ volume_id: volumeIdFor('v', agent.tag) }),
  );
  t.is(code, 'UNAVAILABLE');
  t.regex(message, /the connection to node 'node-a' was lost|has been unreachable/);
  await until('node-a', 'unreachable');
  await agent.restore();
  await until('node-a', 'ready');
});

test('an agent that must not be called is refused, and says why', async (t) => {
  const cases = [
    { hello: { driver_name: 'other.io' }, why: /its driver is 'other\.io'/ },
    { hello: { api_version: 0 }, why: /speaks version 0/ },
    { hello: { node_tag: '00000000' }, why: /not the hash of that id/ },
  ];
  for (const { hello, why } of cases) {
    const agent = await startFakeAgent(t, 'node-a', { hello });
    const { until, controller } = await startTestController(t, [agent]);
    await until('node-a', 'refused');
    const { code, message } = await endOf(
      controller.DeleteVolume({ volume_id: volumeIdFor('v', agent.tag) }),
    );
    t.is(code, 'UNAVAILABLE');
    t.regex(message, why);
  }
});

test('an agent of another node than the discovery says is refused', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, discovery, running } = await startTestController(t, []);
  const endpoint = { address: agent.address, isServing: true, isTerminating: false };
  discovery.set([{ ...endpoint, nodeName: 'node-b' }]);
  await until('node-b', 'refused');
  discovery.set([{ ...endpoint, nodeName: 'node-a' }]);
  await until('node-a', 'ready');
  t.is(running.agents.nodes().length, 1);
});

test('two machines with one node id are both refused', async (t) => {
  const one = await startFakeAgent(t, 'node-a', { hello: { pools: [{ name: 'p', uuid: '1' }] } });
  const other = await startFakeAgent(t, 'node-a', { hello: { pools: [{ name: 'p', uuid: '2' }] } });
  const { until, controller } = await startTestController(t, [one, other]);
  await until('node-a', 'refused');
  const { message } = await endOf(
    controller.DeleteVolume({ volume_id: volumeIdFor('v', one.tag) }),
  );
  t.regex(message, /are on different machines and have the same node id/);
});

test('of two agents of a node, the one that serves and is not stopping gets new calls', async (t) => {
  const stopping = await startFakeAgent(t, 'node-a');
  const starting = await startFakeAgent(t, 'node-a');
  const { until, discovery, controller } = await startTestController(t, []);
  const at = ({ address }: { address: string }, isServing: boolean, isTerminating: boolean) => ({
    address,
    nodeName: 'node-a',
    isServing,
    isTerminating,
  });
  discovery.set([at(stopping, true, false)]);
  await until('node-a', 'ready');
  const name = { name: 'v', volume_capabilities: [aCapability] };
  discovery.set([at(stopping, true, false), at(starting, false, false)]);
  await controller.CreateVolume(name);
  t.is(starting.calls.length, 0);
  discovery.set([at(stopping, false, true), at(starting, true, false)]);
  const moved = await pollUntil(
    async () => {
      await controller.CreateVolume(name);
      return starting.calls.length > 0;
    },
    { timeoutMs: 60_000, pauseMs: 20 },
  );
  t.true(moved);
  await starting.cut();
  await pollUntil(async () => (await endOf(controller.CreateVolume(name))).code === 'OK', {
    timeoutMs: 60_000,
    pauseMs: 20,
  });
  t.is((await endOf(controller.CreateVolume(name))).code, 'OK');
});

test('more calls than an agent may have at a time are refused', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller } = await startTestController(t, [agent]);
  await until('node-a', 'ready');
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  agent.before = async () => held;
  const request = { volume_id: volumeIdFor('v', agent.tag) };
  const calls = Array.from({ length: 65 }, () => endOf(controller.DeleteVolume(request)));
  const refused = await Promise.race(calls);
  t.is(refused.code, 'UNAVAILABLE');
  t.regex(refused.message, /node 'node-a' already has 64 calls/);
  release();
  const codes = (await Promise.all(calls)).map(({ code }) => code);
  t.is(codes.filter((code) => code === 'OK').length, 64);
});

test('a call ends before the deadline of its caller, and says that the node continues', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller } = await startTestController(t, [agent], {
    timings: { answerMs: 20_000 },
  });
  await until('node-a', 'ready');
  agent.before = async () => new Promise(() => undefined);
  const request = { volume_id: volumeIdFor('v', agent.tag) };
  const { code, message } = await endOf(controller.DeleteVolume(request, { timeoutMs: 25_000 }));
  t.is(code, 'DEADLINE_EXCEEDED');
  t.regex(message, /node 'node-a' has not answered within the deadline/);
});

test('nodes that are refused count as unreachable since they were first refused', async (t) => {
  const one = await startFakeAgent(t, 'node-a', { hello: { pools: [{ name: 'p', uuid: '1' }] } });
  const other = await startFakeAgent(t, 'node-a', { hello: { pools: [{ name: 'p', uuid: '2' }] } });
  const old = await startFakeAgent(t, 'node-b', { hello: { api_version: 0 } });
  const { until, controller, discovery, advance } = await startTestController(t, [one, other, old]);
  await until('node-a', 'refused');
  await until('node-b', 'refused');
  for (const agent of [one, old]) {
    const accessible_topology = { segments: agent.hello.segments };
    t.is((await endOf(controller.GetCapacity({ accessible_topology }))).code, 'UNAVAILABLE');
  }
  advance(181_000);
  // The nodes are put together anew.
  discovery.set([one, other, old].map(({ address }) => address));
  for (const agent of [one, old]) {
    const accessible_topology = { segments: agent.hello.segments };
    t.is((await controller.GetCapacity({ accessible_topology })).available_capacity, 0n);
    const health = await controller.ControllerGetVolumeHealth({
      volume_id: volumeIdFor('v', agent.tag),
    });
    t.is(health.volume_health?.health_statuses[0]?.status, 'DEGRADED');
  }
});

test('before the first list of agents, nothing is listed and there is no capacity to tell', async (t) => {
  const { controller, discovery } = await startTestController(t, undefined);
  const calls = () => [
    controller.ListVolumes({}),
    controller.ListSnapshots({}),
    controller.GetCapacity({}),
  ];
  for (const call of calls()) {
    const { code, message } = await endOf(call);
    t.is(code, 'UNAVAILABLE');
    t.regex(message, /source of --agents has not given its first list/);
  }
  discovery.set([]);
  for (const call of calls()) t.is((await endOf(call)).code, 'OK');
});

test('a node whose new agent goes before it was ready stays known, with the entries of other tags that it has', async (t) => {
  const foreign = volumeIdFor('v', '01234567');
  const old = await startFakeAgent(t, 'node-a', { hello: { foreign_ids: [foreign] } });
  const never = await startFakeAgent(t, 'node-a');
  await never.cut();
  const { until, discovery, controller, running, advance } = await startTestController(t, []);
  const at = ({ address }: { address: string }) => ({
    address,
    nodeName: 'node-a',
    isServing: true,
    isTerminating: false,
  });
  const foreignIds = () => running.agents.nodes().map((node) => node.foreignIds);
  discovery.set([at(old)]);
  await until('node-a', 'ready');
  discovery.set([]);
  t.deepEqual(foreignIds(), [[foreign]]);
  discovery.set([at(never)]);
  await until('node-a', 'unreachable');
  advance(700_000);
  t.deepEqual(foreignIds(), [[foreign]]);
  discovery.set([]);
  t.deepEqual(foreignIds(), [[foreign]]);
  t.is((await endOf(controller.ListVolumes({}))).code, 'UNAVAILABLE');
  t.regex((await endOf(controller.DeleteVolume({ volume_id: foreign }))).message, /node-a/);
  advance(601_000);
  t.deepEqual(foreignIds(), []);
});

test('a node that was ready and is refused when its agent goes stays known', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, discovery, controller } = await startTestController(t, [agent], {
    timings: { helloIntervalMs: 50 },
  });
  await until('node-a', 'ready');
  agent.hello = { ...agent.hello, api_version: 0 };
  await until('node-a', 'refused');
  discovery.set([]);
  t.is((await endOf(controller.ListVolumes({}))).code, 'UNAVAILABLE');
});

test('an attempt to connect that gets no answer is given up and repeated', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const silent: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    // A machine that has lost its power and came back says nothing on a connection from before.
    if (silent.length === 0) {
      silent.push(socket);
      return;
    }
    const inside = connect(Number(agent.address.split(':')[1]), '127.0.0.1');
    inside.on('error', () => undefined);
    socket.on('close', () => inside.destroy());
    inside.on('close', () => socket.destroy());
    socket.pipe(inside).pipe(socket);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    for (const socket of silent) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const { until, discovery } = await startTestController(t, [], {
    timings: { connectTimeoutMs: 300 },
  });
  discovery.set([`127.0.0.1:${port}`]);
  await until('node-a', 'ready');
  t.is(silent.length, 1);
});
