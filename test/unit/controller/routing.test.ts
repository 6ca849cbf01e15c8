import test from 'ava';
import type { Client } from '../../../src/csi/client.ts';
import { VolumeError } from '../../../src/errors.ts';
import { groupIdFor, nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import { topologyOfNode } from '../../../src/rpc/topology.ts';
import {
  aCapability,
  endOf,
  forgottenText,
  memoryNodeStore,
  startTestController,
  type TestController,
} from '../../helpers/controller.ts';
import { type FakeAgent, startFakeAgent } from '../../helpers/fake-agent.ts';

/** The states of a node, and an id that no node made. */
const places = [
  'ready',
  'unreachable',
  'hung',
  'refused',
  'forgotten',
  'unknown',
  'malformed',
] as const;
type Place = (typeof places)[number];

interface Target {
  readonly volume: string;
  readonly snapshot: string;
  readonly group: string;
  readonly segments: Readonly<Record<string, string>>;
}

function targetOf(place: Place): Target {
  if (place === 'malformed') {
    return { volume: 'no id', snapshot: 'no id', group: 'no id', segments: { 'other/node': 'x' } };
  }
  const nodeId = `node-${place}`;
  const tag = nodeTagOf(nodeId);
  const { key, value } = topologyOfNode('loopcsi.io', nodeId);
  return {
    volume: volumeIdFor('v', tag),
    snapshot: snapshotIdFor('s', tag),
    group: groupIdFor('g', tag),
    segments: { [key]: value },
  };
}

type Clients = Pick<TestController, 'controller' | 'groups' | 'metadata'>;

interface Row {
  readonly rpc: string;
  readonly call: (clients: Clients, target: Target) => Promise<unknown>;
  /** Codes for places. All others are UNAVAILABLE. */
  readonly ready?: string;
  readonly forgotten: string;
  readonly malformed: string;
}

const drained = async (
  stream: ReturnType<Client<'csi.v1.SnapshotMetadata'>['GetMetadataAllocated']>,
) => {
  for await (const _ of stream);
};

const gets = { forgotten: 'NOT_FOUND', malformed: 'NOT_FOUND' };
const deletes = { forgotten: 'OK', malformed: 'OK' };

/** Every RPC that is routed, and its code for a node in each state: that a node is unreachable never looks like an entry that is gone. */
const rows: readonly Row[] = [
  {
    rpc: 'CreateVolume',
    call: ({ controller }, { segments }) =>
      controller.CreateVolume({
        name: 'v',
        volume_capabilities: [aCapability],
        accessibility_requirements: { requisite: [{ segments }], preferred: [{ segments }] },
      }),
    forgotten: 'RESOURCE_EXHAUSTED',
    malformed: 'RESOURCE_EXHAUSTED',
  },
  {
    rpc: 'ValidateVolumeCapabilities',
    call: ({ controller }, { volume }) =>
      controller.ValidateVolumeCapabilities({
        volume_id: volume,
        volume_capabilities: [aCapability],
      }),
    ...gets,
  },
  {
    rpc: 'ControllerGetVolume',
    call: ({ controller }, { volume }) => controller.ControllerGetVolume({ volume_id: volume }),
    ...gets,
  },
  {
    rpc: 'ControllerExpandVolume',
    call: ({ controller }, { volume }) =>
      controller.ControllerExpandVolume({
        volume_id: volume,
        capacity_range: { required_bytes: 5n, limit_bytes: 0n },
      }),
    ...gets,
  },
  {
    rpc: 'ControllerGetVolumeHealth',
    call: ({ controller }, { volume }) =>
      controller.ControllerGetVolumeHealth({ volume_id: volume }),
    ...gets,
  },
  {
    rpc: 'GetCapacity',
    call: ({ controller }, { segments }) =>
      controller.GetCapacity({ accessible_topology: { segments } }),
    forgotten: 'OK',
    malformed: 'OK',
  },
  {
    rpc: 'CreateSnapshot',
    call: ({ controller }, { volume }) =>
      controller.CreateSnapshot({ name: 's', source_volume_id: volume }),
    ...gets,
  },
  {
    rpc: 'GetSnapshot',
    call: ({ controller }, { snapshot }) => controller.GetSnapshot({ snapshot_id: snapshot }),
    ...gets,
  },
  {
    rpc: 'ListSnapshots of one id',
    call: ({ controller }, { snapshot }) => controller.ListSnapshots({ snapshot_id: snapshot }),
    ...deletes,
  },
  {
    rpc: 'ListSnapshots of one volume',
    call: ({ controller }, { volume }) => controller.ListSnapshots({ source_volume_id: volume }),
    ...deletes,
  },
  {
    rpc: 'GetMetadataAllocated',
    call: ({ metadata }, { snapshot }) =>
      drained(metadata.GetMetadataAllocated({ snapshot_id: snapshot })),
    ...gets,
  },
  {
    rpc: 'GetMetadataDelta',
    call: ({ metadata }, { snapshot }) =>
      drained(
        metadata.GetMetadataDelta({ base_snapshot_id: snapshot, target_snapshot_id: snapshot }),
      ),
    ...gets,
  },
  {
    rpc: 'DeleteSnapshot',
    call: ({ controller }, { snapshot }) => controller.DeleteSnapshot({ snapshot_id: snapshot }),
    ...deletes,
  },
  {
    rpc: 'CreateVolumeGroupSnapshot',
    call: ({ groups }, { volume }) =>
      groups.CreateVolumeGroupSnapshot({ name: 'g', source_volume_ids: [volume] }),
    ...gets,
  },
  {
    rpc: 'GetVolumeGroupSnapshot',
    call: ({ groups }, { group }) => groups.GetVolumeGroupSnapshot({ group_snapshot_id: group }),
    ...gets,
  },
  {
    rpc: 'DeleteVolumeGroupSnapshot',
    call: ({ groups }, { group }) => groups.DeleteVolumeGroupSnapshot({ group_snapshot_id: group }),
    ...deletes,
  },
  {
    rpc: 'DeleteVolume',
    call: ({ controller }, { volume }) => controller.DeleteVolume({ volume_id: volume }),
    ...deletes,
  },
];

test('every RPC × every state of its node', async (t) => {
  const unreachable = await startFakeAgent(t, 'node-unreachable');
  const hung = await startFakeAgent(t, 'node-hung');
  const refused = await startFakeAgent(t, 'node-refused');
  const agents: FakeAgent[] = [await startFakeAgent(t, 'node-ready'), unreachable, hung, refused];
  const started = await startTestController(t, agents, {
    nodeStore: memoryNodeStore(forgottenText('node-forgotten')),
    timings: { pingIntervalMs: 500, pingTimeoutMs: 5_000 },
  });
  const { until, advance } = started;
  // Each has said once what it has: until then, an id of the forgotten node is not called missing.
  for (const place of ['ready', 'unreachable', 'hung', 'refused'] as const)
    await until(`node-${place}`, 'ready');
  refused.hello = { ...refused.hello, driver_name: 'other.io' };
  await refused.cut();
  await refused.restore();
  await until('node-refused', 'refused');
  await unreachable.cut();
  hung.hang();
  await until('node-unreachable', 'unreachable');
  const expected = (row: Row, place: Place): string => {
    if (place === 'ready') return row.ready ?? 'OK';
    return place === 'forgotten' || place === 'malformed' ? row[place] : 'UNAVAILABLE';
  };
  // After the time in which nodes may still appear, and before a node counts as unreachable for long: nothing moves the clock on its own.
  advance(125_000);
  for (const row of rows) {
    for (const place of places) {
      const isKnownEmpty = row.rpc === 'GetCapacity' || row.rpc === 'CreateVolume';
      // A topology that no node has is the same, whoever had it.
      const want =
        place === 'unknown' && isKnownEmpty
          ? row.forgotten
          : // Such a volume's node has not been ready for more than a minute.
            row.rpc === 'ControllerGetVolumeHealth' &&
              (place === 'unreachable' || place === 'refused')
            ? 'OK'
            : expected(row, place);
      const target = targetOf(place);
      const { code, message } = await endOf(row.call(started, target));
      const name = `${row.rpc}, ${place}: ${message}`;
      if (place === 'hung' && row.rpc === 'ControllerGetVolumeHealth')
        t.regex(code, /^(?:UNAVAILABLE|OK)$/, name);
      else t.is(code, want, name);
      if (want === 'UNAVAILABLE') t.regex(message, /node/, name);
    }
  }
});

test('lists fail while the driver of a node has not read a pool, and say which node', async (t) => {
  const [one, other] = [await startFakeAgent(t, 'node-a'), await startFakeAgent(t, 'node-b')];
  const { until, controller } = await startTestController(t, [one, other]);
  await until('node-a', 'ready');
  await until('node-b', 'ready');
  other.before = async () => {
    throw new VolumeError('unavailable', "the list would be incomplete: pool 'a' is not mounted");
  };
  for (const call of [controller.ListVolumes({}), controller.ListSnapshots({})]) {
    t.deepEqual(await endOf(call), {
      code: 'UNAVAILABLE',
      message: "node 'node-b': the list would be incomplete: pool 'a' is not mounted",
    });
  }
});

test('lists fail while a node is unreachable, and say which', async (t) => {
  const [one, other] = [await startFakeAgent(t, 'node-a'), await startFakeAgent(t, 'node-b')];
  const { until, controller } = await startTestController(t, [one, other]);
  await until('node-a', 'ready');
  await until('node-b', 'ready');
  t.deepEqual((await controller.ListVolumes({})).entries, []);
  await other.cut();
  await until('node-b', 'unreachable');
  for (const call of [controller.ListVolumes({}), controller.ListSnapshots({})]) {
    const { code, message } = await endOf(call);
    t.is(code, 'UNAVAILABLE');
    t.regex(message, /^node 'node-b'/);
  }
});

test('malformed requests get the codes and messages of a driver, with no agent at all', async (t) => {
  const { controller, groups } = await startTestController(t, []);
  const cases: readonly (readonly [Promise<unknown>, string])[] = [
    [controller.CreateVolume({}), 'name is missing'],
    [controller.CreateVolume({ name: 'v' }), 'volume_capabilities is empty; give at least one'],
    [controller.DeleteVolume({}), 'volume_id is missing'],
    [
      controller.ControllerExpandVolume({ volume_id: 'x' }),
      'capacity_range is missing; give the new size of the volume',
    ],
    [
      controller.ListVolumes({ max_entries: -1 }),
      'max_entries -1 must not be negative; 0 means no limit',
    ],
    [controller.CreateSnapshot({ name: 's' }), 'source_volume_id is missing'],
    [groups.CreateVolumeGroupSnapshot({ name: 'g' }), 'source_volume_ids is empty'],
    [
      controller.DeleteVolume({ volume_id: 'x'.repeat(129) }),
      'volume_id has 129 bytes; CSI allows at most 128',
    ],
  ];
  for (const [call, message] of cases) {
    t.deepEqual(await endOf(call), { code: 'INVALID_ARGUMENT', message });
  }
  const missing = await endOf(controller.ControllerGetVolume({ volume_id: 'x' }));
  t.deepEqual(missing, { code: 'NOT_FOUND', message: "volume 'x' does not exist" });
  t.is((await endOf(controller.ListVolumes({ starting_token: 'x' }))).code, 'ABORTED');
});

test('a node that has an entry which another node made gets the calls for it', async (t) => {
  const id = volumeIdFor('moved', nodeTagOf('node-a'));
  const born = await startFakeAgent(t, 'node-a');
  const home = await startFakeAgent(t, 'node-b', { hello: { foreign_ids: [id] } });
  const { until, controller } = await startTestController(t, [born, home]);
  await until('node-a', 'ready');
  await until('node-b', 'ready');
  await controller.DeleteVolume({ volume_id: id });
  t.deepEqual([born.calls, home.calls], [[], ['DeleteVolume']]);
  await controller.ListSnapshots({ source_volume_id: id });
  t.deepEqual([born.calls, home.calls], [['ListSnapshots'], ['DeleteVolume', 'ListSnapshots']]);
});

test('a comparison of snapshots of two nodes is refused', async (t) => {
  const [one, other] = [await startFakeAgent(t, 'node-a'), await startFakeAgent(t, 'node-b')];
  const { until, metadata } = await startTestController(t, [one, other]);
  await until('node-a', 'ready');
  await until('node-b', 'ready');
  const delta = await endOf(
    drained(
      metadata.GetMetadataDelta({
        base_snapshot_id: snapshotIdFor('s', one.tag),
        target_snapshot_id: snapshotIdFor('s', other.tag),
      }),
    ),
  );
  t.is(delta.code, 'FAILED_PRECONDITION');
  t.regex(delta.message, /make a full backup/);
  t.deepEqual([one.calls, other.calls], [[], []]);
});

test('health of a volume whose node is unreachable is reported after a minute', async (t) => {
  const agent = await startFakeAgent(t, 'node-a');
  const { until, controller, advance } = await startTestController(t, [agent]);
  await until('node-a', 'ready');
  await agent.cut();
  await until('node-a', 'unreachable');
  const request = { volume_id: volumeIdFor('v', agent.tag) };
  t.is((await endOf(controller.ControllerGetVolumeHealth(request))).code, 'UNAVAILABLE');
  advance(61_000);
  const { volume_health } = await controller.ControllerGetVolumeHealth(request);
  t.like(volume_health?.health_statuses[0], { status: 'DEGRADED', reason: 'AgentUnreachable' });
});

test('capacity: of a segment, summed, kept while a node is unreachable for a short time, and 0 later', async (t) => {
  const [one, other] = [
    await startFakeAgent(t, 'node-a', { room: 5 }),
    await startFakeAgent(t, 'node-b', { room: 7 }),
  ];
  const { until, controller, advance } = await startTestController(t, [one, other]);
  await until('node-a', 'ready');
  await until('node-b', 'ready');
  const of = (agent: FakeAgent) =>
    controller.GetCapacity({ accessible_topology: { segments: agent.hello.segments } });
  t.is((await of(one)).available_capacity, 5n);
  const sum = await controller.GetCapacity({});
  t.is(sum.available_capacity, 12n);
  t.is(sum.maximum_volume_size?.value, 7n);
  const elsewhere = { accessible_topology: { segments: { 'topology.loopcsi.io/node': 'node-c' } } };
  t.is((await endOf(controller.GetCapacity(elsewhere))).code, 'UNAVAILABLE');
  await other.cut();
  await until('node-b', 'unreachable');
  t.is((await endOf(of(other))).code, 'UNAVAILABLE');
  advance(181_000);
  t.is((await of(other)).available_capacity, 0n);
  t.is((await controller.GetCapacity({})).available_capacity, 5n);
  t.is((await controller.GetCapacity(elsewhere)).available_capacity, 0n);
});

test('the capabilities are those of a driver without a list of health', async (t) => {
  const { identity, controller, discovery } = await startTestController(t, []);
  const { capabilities } = await controller.ControllerGetCapabilities({});
  const names = capabilities.map((one) => (one.type === 'rpc' ? one.rpc.type : ''));
  t.true(names.includes('GET_VOLUME_HEALTH') && names.includes('EXPAND_VOLUME'));
  t.false(names.includes('LIST_VOLUME_HEALTH'));
  t.is((await endOf(controller.ControllerListVolumeHealth({}))).code, 'UNIMPLEMENTED');
  t.is((await identity.GetPluginInfo({})).name, 'loopcsi.io');
  discovery.set([]);
  t.true((await identity.Probe({})).ready?.value);
});
