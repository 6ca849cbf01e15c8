import test from 'ava';
import { pollUntil } from '../../../src/async.ts';
import { snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import { endOf, startTestController } from '../../helpers/controller.ts';
import { startFakeAgent } from '../../helpers/fake-agent.ts';

test('health, readiness and metrics', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, running, controller } = await startTestController(t, [agent], {
    httpAddress: { host: '127.0.0.1', port: 0 },
  });
  const get = async (path: string) => fetch(`http://127.0.0.1:${running.httpPort ?? 0}${path}`);
  t.is((await get('/healthz')).status, 200);
  t.is((await get('/readyz')).status, 200);
  await until('node-a', 'ready');
  await controller.DeleteVolume({ volume_id: volumeIdFor('v', agent.tag) });
  const metrics = await (await get('/metrics')).text();
  t.true(metrics.includes('loopcsi_agents{state="ready"} 1'), metrics);
  t.true(metrics.includes('loopcsi_agent_calls_total{node="node-a",code="OK"} 1'), metrics);
  t.regex(
    metrics,
    /loopcsi_calls_total\{service="csi\.v1\.Controller",rpc="DeleteVolume",code="OK"\} 1/,
  );
});

test('a controller is not ready before its discovery has named the agents', async (t) => {
  const { running, identity } = await startTestController(t, undefined, {
    httpAddress: { host: '127.0.0.1', port: 0 },
  });
  const response = await fetch(`http://127.0.0.1:${running.httpPort ?? 0}/readyz`);
  t.is(response.status, 503);
  // The sidecars end after an error, and wait after this answer.
  t.deepEqual((await identity.Probe({})).ready, { value: false });
});

test('the line of a call names its node', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller, lines } = await startTestController(t, [agent]);
  await until('node-a', 'ready');
  await controller.DeleteVolume({ volume_id: volumeIdFor('v', agent.tag) });
  const ended = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .find(({ msg, rpc }) => msg === 'call ended' && rpc === 'DeleteVolume');
  t.like(ended, { node: 'node-a', code: 'OK', volumeId: volumeIdFor('v', agent.tag) });
});

test('a call that runs when the controller stops still gets its response', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller, running } = await startTestController(t, [agent], {
    shutdownTimeoutMs: 60_000,
  });
  await until('node-a', 'ready');
  let release = (): void => undefined;
  agent.before = async () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const call = endOf(controller.DeleteVolume({ volume_id: volumeIdFor('v', agent.tag) }));
  t.true(await pollUntil(() => agent.calls.length === 1, { timeoutMs: 60_000, pauseMs: 5 }));
  const stopped = running.stop();
  release();
  t.is((await call).code, 'OK');
  await stopped;
});

const size = { snapshot_id: '', max_results: 0, starting_offset: 0n };

test('a stream is passed on completely, only as fast as its reader reads, and ends when the reader goes', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller, metadata } = await startTestController(t, [agent]);
  await until('node-a', 'ready');
  const source_volume_id = volumeIdFor('v', agent.tag);
  agent.volumes.set(source_volume_id, {
    volume_id: source_volume_id,
    capacity_bytes: 1n,
    volume_context: {},
    content_source: null,
    accessible_topology: [],
  });
  await controller.CreateSnapshot({ name: 's', source_volume_id });
  const request = { ...size, snapshot_id: snapshotIdFor('s', agent.tag) };
  const offsets: bigint[] = [];
  for await (const { block_metadata } of metadata.GetMetadataAllocated(request))
    offsets.push(...block_metadata.map(({ byte_offset }) => byte_offset));
  t.is(offsets.length, 100_000);
  t.true(offsets.every((offset, index) => offset === BigInt(index) * 4096n));
  agent.calls.length = 0;
  let sent = 0;
  agent.before = async () => {
    sent += 1;
  };
  const stream = metadata.GetMetadataAllocated(request);
  await stream.next();
  // The buffers between agent and reader have filled when the agent sends no more for a while.
  let before = -1;
  await pollUntil(
    () => {
      const isStill = sent === before;
      before = sent;
      return isStill;
    },
    { timeoutMs: 60_000, pauseMs: 500 },
  );
  t.true(sent < 1_000, `${sent} messages were sent to a reader who has read one`);
  await stream.return?.();
  const hasEnded = () => agent.calls.includes('GetMetadataAllocated ended');
  t.true(await pollUntil(hasEnded, { timeoutMs: 60_000, pauseMs: 10 }));
  t.false(agent.calls.includes('GetMetadataAllocated complete'));
});

test('a controller runs without metrics if its default HTTP address is in use, and does not start if one was set', async (t) => {
  const first = await startTestController(t, [], { httpAddress: { host: '127.0.0.1', port: 0 } });
  const httpAddress = { host: '127.0.0.1', port: first.running.httpPort ?? 0 };
  const second = await startTestController(t, [], { httpAddress, isHttpOptional: true });
  t.is(second.running.httpPort, undefined);
  t.is((await endOf(second.identity.Probe({}))).code, 'OK');
  t.true(second.lines.some((line) => line.includes('HTTP address was in use')));
  await t.throwsAsync(startTestController(t, [], { httpAddress }), { message: /--http-address: / });
});
