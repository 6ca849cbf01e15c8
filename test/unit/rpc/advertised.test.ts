import test from 'ava';
import { serviceType } from '../../../src/csi/codec.ts';
import {
  advertised,
  type CsiServiceName,
  controllerCapabilities,
  type Features,
  nodeCapabilities,
  offeredCalls,
} from '../../../src/rpc/advertised.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';

const features: Features = { expansion: 'both', withoutStaging: false };
const services = Object.keys(advertised) as readonly CsiServiceName[];

for (const service of services) {
  test(`each call of ${service} is in the table once`, (t) => {
    const listed = advertised[service].flatMap(({ calls }) => Object.keys(calls)).sort();
    const known = serviceType(service)
      .methodsArray.map(({ name }) => name)
      .sort();
    t.deepEqual(listed, known);
  });
}

test('each capability of the spec is in the table at most once, or excluded here', (t) => {
  const enums: readonly (readonly [CsiServiceName, string])[] = [
    ['csi.v1.Controller', 'ControllerServiceCapability.RPC.Type'],
    ['csi.v1.Node', 'NodeServiceCapability.RPC.Type'],
    ['csi.v1.GroupController', 'GroupControllerServiceCapability.RPC.Type'],
    ['csi.v1.Identity', 'PluginCapability.Service.Type'],
  ];
  // The driver never offers these, so they have no row.
  const excluded = ['PUBLISH_READONLY', 'LIST_VOLUMES_PUBLISHED_NODES', 'VOLUME_MOUNT_GROUP'];
  for (const [service, name] of enums) {
    const { values } = serviceType(service).root.lookupEnum(`csi.v1.${name}`);
    const known = Object.keys(values).filter((value) => value !== 'UNKNOWN');
    const rows: readonly { readonly capability?: string }[] = advertised[service];
    const listed = rows.flatMap(({ capability }) => (capability === undefined ? [] : [capability]));
    t.is(new Set(listed).size, listed.length);
    t.deepEqual(
      known.filter((value) => !listed.includes(value) && !excluded.includes(value)),
      [],
    );
  }
});

test('calls that are not offered return UNIMPLEMENTED, and no call returns UNKNOWN', async (t) => {
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

test('--expansion=node and --without-staging remove their capabilities and calls', async (t) => {
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

test('LIST_VOLUME_HEALTH is offered only with GET_VOLUME_HEALTH', (t) => {
  const offered = controllerCapabilities(features);
  t.true(!offered.includes('LIST_VOLUME_HEALTH') || offered.includes('GET_VOLUME_HEALTH'));
});
