import { status } from '@grpc/grpc-js';
import test from 'ava';
import { serviceType } from '../../../src/csi/codec.ts';
import { type Reason, reasons, VolumeError } from '../../../src/errors.ts';
import {
  advertised,
  type CsiServiceName,
  controllerCapabilities,
  type Features,
  nodeCapabilities,
  offeredCalls,
} from '../../../src/rpc/advertised.ts';
import { toStatus } from '../../../src/rpc/status.ts';
import { includesNode, requireReachable, topologyOfNode } from '../../../src/rpc/topology.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';

const features: Features = { expansion: 'both', withoutStaging: false };
const services = Object.keys(advertised) as readonly CsiServiceName[];

const codes: Readonly<Record<Reason, status>> = {
  invalid: 3,
  'not-found': 5,
  conflict: 6,
  busy: 10,
  'wrong-state': 9,
  'out-of-range': 11,
  'no-space': 8,
  'stale-token': 10,
  unavailable: 14,
  unsupported: 12,
  cancelled: 1,
  internal: 13,
};
for (const reason of reasons) {
  test(`status: ${reason} is ${status[codes[reason]]}`, (t) => {
    t.deepEqual(toStatus(new VolumeError(reason, 'words')), {
      code: codes[reason],
      details: 'words',
    });
  });
}

test('status: long words are cut, whatever else is thrown tells nothing', (t) => {
  t.is(toStatus(new VolumeError('invalid', 'x'.repeat(100_000))).details.length, 2001);
  for (const thrown of [new Error('inner'), 'inner', undefined, { code: 5, details: 'inner' }]) {
    t.is(toStatus(thrown).code, status.INTERNAL);
    t.notRegex(toStatus(thrown).details, /inner/);
  }
});

for (const service of services) {
  test(`capabilities: each call of ${service} stands in the table once`, (t) => {
    const listed = advertised[service].flatMap(({ calls }) => Object.keys(calls)).sort();
    const known = serviceType(service)
      .methodsArray.map(({ name }) => name)
      .sort();
    t.deepEqual(listed, known);
  });
}

test('capabilities: each of the interface stands in the table, none twice', (t) => {
  const enums: readonly (readonly [CsiServiceName, string])[] = [
    ['csi.v1.Controller', 'ControllerServiceCapability.RPC.Type'],
    ['csi.v1.Node', 'NodeServiceCapability.RPC.Type'],
    ['csi.v1.GroupController', 'GroupControllerServiceCapability.RPC.Type'],
    ['csi.v1.Identity', 'PluginCapability.Service.Type'],
  ];
  // Decisions not to offer: no row at all.
  const left = ['PUBLISH_READONLY', 'LIST_VOLUMES_PUBLISHED_NODES', 'VOLUME_MOUNT_GROUP'];
  for (const [service, name] of enums) {
    const { values } = serviceType(service).root.lookupEnum(`csi.v1.${name}`);
    const known = Object.keys(values).filter((value) => value !== 'UNKNOWN');
    const rows: readonly { readonly capability?: string }[] = advertised[service];
    const listed = rows.flatMap(({ capability }) => (capability === undefined ? [] : [capability]));
    t.is(new Set(listed).size, listed.length);
    t.deepEqual(
      known.filter((value) => !listed.includes(value) && !left.includes(value)),
      [],
    );
  }
});

test('capabilities: what is not offered is UNIMPLEMENTED, and nothing is UNKNOWN', async (t) => {
  const { identity, controller, node } = await serveFake(t);
  const clients = {
    'csi.v1.Identity': identity,
    'csi.v1.Controller': controller,
    'csi.v1.Node': node,
  };
  for (const [service, client] of Object.entries(clients)) {
    const calls = offeredCalls(service as CsiServiceName, features);
    for (const [rpc, { offered }] of calls) {
      const method: unknown = Reflect.get(client, rpc);
      if (typeof method !== 'function') throw new Error(`no ${rpc}`);
      const code = await codeOf(Reflect.apply(method, client, [{}]) as Promise<unknown>);
      t.is(code === 'UNIMPLEMENTED', !offered, `${rpc}: ${code}`);
      t.not(code, 'UNKNOWN');
      t.not(code, 'INTERNAL', rpc);
    }
  }
});

test('capabilities: --expansion=node and --without-staging take theirs away with their calls', async (t) => {
  const without = { expansion: 'node', withoutStaging: true } as const;
  t.true(controllerCapabilities(features).includes('EXPAND_VOLUME'));
  t.false(controllerCapabilities(without).includes('EXPAND_VOLUME'));
  t.true(nodeCapabilities(without).includes('EXPAND_VOLUME'));
  t.false(nodeCapabilities(without).includes('STAGE_UNSTAGE_VOLUME'));
  const { controller, node } = await serveFake(t, { settings: without });
  t.is(await codeOf(controller.ControllerExpandVolume({})), 'UNIMPLEMENTED');
  t.is(await codeOf(node.NodeStageVolume({})), 'UNIMPLEMENTED');
  const { capabilities } = await controller.ControllerGetCapabilities({});
  t.false(capabilities.some(({ rpc }) => rpc?.type === 'EXPAND_VOLUME'));
});

test('capabilities: LIST_VOLUME_HEALTH comes only with GET_VOLUME_HEALTH', (t) => {
  const offered = controllerCapabilities(features);
  t.true(!offered.includes('LIST_VOLUME_HEALTH') || offered.includes('GET_VOLUME_HEALTH'));
});

const nodeIds = [
  { nodeId: 'node-a', value: /^node-a$/ },
  { nodeId: 'n'.repeat(63), value: /^n{63}$/ },
  { nodeId: 'n'.repeat(64), value: /^n{46}-[0-9a-f]{16}$/ },
  { nodeId: 'with space/ä', value: /^with-space---[0-9a-f]{16}$/ },
  { nodeId: '-dash', value: /^dash-[0-9a-f]{16}$/ },
  { nodeId: '💾', value: /[0-9a-f]{16}$/ },
];
for (const { nodeId, value } of nodeIds) {
  const shown = `${nodeId.slice(0, 20)}' of ${nodeId.length}`;
  test(`topology: the value for '${shown} is a label's`, (t) => {
    const thisNode = topologyOfNode('loopcsi.io', nodeId);
    t.regex(thisNode.value, value);
    t.regex(thisNode.value, /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/);
    t.is(thisNode.key, 'topology.loopcsi.io/node');
  });
}

test('topology: two long names that begin alike differ', (t) => {
  const long = 'n'.repeat(200);
  t.not(topologyOfNode('d.io', `${long}a`).value, topologyOfNode('d.io', `${long}b`).value);
});

test("topology: the key's prefix keeps to 63 characters", (t) => {
  const driver = `${'d'.repeat(60)}.io`;
  t.is(topologyOfNode(driver, 'n').key, `${driver}/node`);
});

test('topology: keys without regard to case, values exactly, unknown keys never', (t) => {
  const thisNode = topologyOfNode('loopcsi.io', 'node-a');
  t.true(includesNode({ segments: { 'Topology.LoopCSI.io/Node': 'node-a' } }, thisNode));
  t.false(includesNode({ segments: { 'topology.loopcsi.io/node': 'Node-A' } }, thisNode));
  t.false(
    includesNode({ segments: { 'topology.loopcsi.io/node': 'node-a', zone: 'a' } }, thisNode),
  );
  t.true(includesNode({ segments: {} }, thisNode));
});

test('topology: a preference alone excludes nothing', (t) => {
  const thisNode = topologyOfNode('loopcsi.io', 'node-a');
  const there = { segments: { [thisNode.key]: 'node-b' } };
  t.notThrows(() => {
    requireReachable({ requisite: [], preferred: [there] }, thisNode);
  });
  t.throws(
    () => {
      requireReachable({ requisite: [there], preferred: [] }, thisNode);
    },
    { instanceOf: VolumeError },
  );
});
