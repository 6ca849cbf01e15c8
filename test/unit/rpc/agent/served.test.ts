import { once } from 'node:events';
import { connect as connectPlain } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client as Channel } from '@grpc/grpc-js';
import test from 'ava';
import { methodsOf } from '../../../../src/csi/codec.ts';
import type { ServiceName } from '../../../../src/csi/rpc-types.ts';
import { VolumeError } from '../../../../src/errors.ts';
import { groupIdFor } from '../../../../src/ids.ts';
import { issueCertificate, makeAuthority } from '../../../../src/tls/authority.ts';
import { channelTo, connectTls, controllerOf, serveFakeAgent } from '../../../helpers/agent.ts';
import { writeTlsFiles } from '../../../helpers/certificates.ts';
import { codeOf } from '../../../helpers/csi-server.ts';
import { until } from '../../../helpers/until.ts';

const controllerRole = { driverName: 'loopcsi.io', role: 'controller' } as const;
const dayMs = 24 * 60 * 60 * 1000;
const agentRole = { driverName: 'loopcsi.io', role: 'agent' } as const;

/** The code of a call with an empty request. */
async function codeOfEmptyCall(channel: Channel, path: string): Promise<string> {
  return codeOf(
    new Promise((resolve, reject) => {
      channel.makeUnaryRequest(
        path,
        () => Buffer.alloc(0),
        (answer) => answer,
        {},
        (error, answer) => {
          if (error === null) resolve(answer);
          else reject(error);
        },
      );
    }),
  );
}

test('Hello says which node this is', async (t) => {
  const served = await serveFakeAgent(t, {
    volumes: {
      inventory: () => ({
        nodeTag: '0123abcd',
        pools: [{ name: 'a', uuid: 'u-1' }],
        foreignIds: [],
        volumeCount: 3,
        undecidedGroups: [{ groupId: groupIdFor('g', 'ffffffff'), attempt: 'an-attempt' }],
      }),
    },
  });
  const { agent } = controllerOf(t, served.agent.port, served.certificates);
  t.deepEqual(await agent.Hello({ api_version: 7, controller_version: '9' }), {
    api_version: 1,
    version: '1.2.3',
    driver_name: 'loopcsi.io',
    node_id: 'node-a',
    node_tag: '0123abcd',
    segments: { 'topology.loopcsi.io/node': 'node-a' },
    pools: [{ name: 'a', uuid: 'u-1' }],
    foreign_ids: [],
    volume_count: { value: 3n },
    peer_addresses: [],
    undecided_groups: [{ group_id: 'g.ffffffff', attempt: 'an-attempt' }],
  });
  t.is(await codeOf(agent.Hello({})), 'INVALID_ARGUMENT');
});

test('the calls of the controller reach the domain', async (t) => {
  const served = await serveFakeAgent(t);
  const { controller } = controllerOf(t, served.agent.port, served.certificates);
  await controller.DeleteVolume({ volume_id: 'pvc-1.0123abcd' });
  t.deepEqual(served.calls, [{ method: 'deleteVolume', input: 'pvc-1.0123abcd' }]);
  t.is(await codeOf(controller.DeleteVolume({ volume_id: 'x'.repeat(200) })), 'INVALID_ARGUMENT');
  t.is(served.calls.length, 1);
});

const hidden: readonly ServiceName[] = [
  'csi.v1.Node',
  'loopcsi.v1.Admin',
  'pluginregistration.Registration',
];

test('the services of a node and of its operator are not there', async (t) => {
  const served = await serveFakeAgent(t);
  const { channel } = controllerOf(t, served.agent.port, served.certificates);
  const paths = hidden.flatMap((service) =>
    methodsOf(service).map(({ name }) => `/${service}/${name}`),
  );
  t.true(paths.length > 30);
  for (const path of paths) t.is(await codeOfEmptyCall(channel, path), 'UNIMPLEMENTED', path);
  t.deepEqual(served.calls, []);
  // Served ones answer something else.
  const offered: readonly ServiceName[] = ['csi.v1.Identity', 'csi.v1.Controller'];
  for (const service of offered) {
    const [first] = methodsOf(service);
    t.not(await codeOfEmptyCall(channel, `/${service}/${first?.name ?? ''}`), 'UNIMPLEMENTED');
  }
});

test('a message that is too large is refused', async (t) => {
  const served = await serveFakeAgent(t);
  const { controller } = controllerOf(t, served.agent.port, served.certificates);
  const name = 'x'.repeat(2 * 1024 * 1024);
  t.is(await codeOf(controller.CreateVolume({ name })), 'RESOURCE_EXHAUSTED');
});

test('running calls survive new certificates, and new connections use them', async (t) => {
  let finish = (): void => undefined;
  const served = await serveFakeAgent(t, {
    volumes: {
      deleteVolume: async () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    },
  });
  const { authority } = served.certificates;
  const { controller, identity } = controllerOf(t, served.agent.port, served.certificates);
  const before = finish;
  const running = codeOf(controller.DeleteVolume({ volume_id: 'v.0123abcd' }));
  await until('the call has arrived', () => finish !== before);
  const codes: string[] = [];
  let isDone = false;
  const load = (async () => {
    while (!isDone) {
      codes.push(await codeOf(identity.Probe({})));
      await delay(1);
    }
  })();
  // First new certificates, then a second authority that is trusted too, then only that one.
  const presented = async (): Promise<string> => {
    const socket = connectTls(t, served.agent.port, { pair: served.certificates.controller });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };
  const first = await presented();
  const renewed = await issueCertificate(authority, agentRole);
  await writeTlsFiles(served.tlsDir, renewed, authority.certificate);
  await until('it is presented', async () => (await presented()) !== first);
  const next = await makeAuthority();
  const both = `${authority.certificate}${next.certificate}`;
  await writeTlsFiles(served.tlsDir, renewed, both);
  const pair = await issueCertificate(next, controllerRole);
  const later = channelTo(t, served.agent.port, { authorities: both, pair });
  await until(
    'a controller of the new authority is accepted',
    async () => (await codeOfEmptyCall(later, '/csi.v1.Identity/Probe')) === 'OK',
  );
  t.is(await codeOf(identity.Probe({})), 'OK');
  finish();
  t.is(await running, 'OK');
  isDone = true;
  await load;
  t.deepEqual([...new Set(codes)], ['OK']);
  t.true(codes.length > 10);

  // Without the old authority, its connections end, and those of the new one stay.
  await writeTlsFiles(served.tlsDir, await issueCertificate(next, agentRole), next.certificate);
  await until(
    'the old connection is closed',
    async () => (await codeOf(identity.Probe({}))) === 'UNAVAILABLE',
  );
  t.true(served.lines.some((line) => line.includes('its certificate is no longer valid')));
  t.is(await codeOfEmptyCall(later, '/csi.v1.Identity/Probe'), 'OK');
});

test('a connection ends when its certificate expires', async (t) => {
  let passedMs = 0;
  const served = await serveFakeAgent(t, {
    limits: { checkMs: 50 },
    now: () => Date.now() + passedMs,
  });
  const { authority } = served.certificates;
  const shortLived = await issueCertificate(authority, controllerRole, { lifetimeMs: dayMs });
  const authorities = authority.certificate;
  const one = channelTo(t, served.agent.port, { authorities, pair: shortLived });
  const other = controllerOf(t, served.agent.port, served.certificates);
  t.is(await codeOfEmptyCall(one, '/csi.v1.Identity/Probe'), 'OK');
  t.is(await codeOf(other.identity.Probe({})), 'OK');
  const closed = () => served.lines.filter((line) => line.includes('is no longer valid')).length;
  passedMs = dayMs / 2;
  await delay(500);
  t.is(closed(), 0);
  passedMs = 2 * dayMs;
  await until('it is closed', () => closed() > 0);
  passedMs = 0;
  t.is(closed(), 1);
  t.is(await codeOf(other.identity.Probe({})), 'OK');
});

test('a peer that stops answering is disconnected', async (t) => {
  const served = await serveFakeAgent(t, { keepalive: { pingMs: 200, timeoutMs: 200 } });
  const pair = served.certificates.controller;
  const silent = connectTls(t, served.agent.port, { pair });
  await once(silent, 'secureConnect');
  // Preface and an empty SETTINGS frame, but no answer to a PING.
  silent.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
  const mute = connectTls(t, served.agent.port, { pair });
  const { identity } = controllerOf(t, served.agent.port, served.certificates);
  t.is(await codeOf(identity.Probe({})), 'OK');
  await until('both are closed', () => silent.closed && mute.closed);
  t.is(await codeOf(identity.Probe({})), 'OK');
  t.is(served.refused.length, 0);
});

test('draining lets running calls end, and accepts no new connection', async (t) => {
  let finish = (): void => undefined;
  const served = await serveFakeAgent(t, {
    volumes: {
      deleteVolume: async () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    },
  });
  const { controller } = controllerOf(t, served.agent.port, served.certificates);
  const before = finish;
  const running = codeOf(controller.DeleteVolume({ volume_id: 'v.0123abcd' }));
  await until('the call has arrived', () => finish !== before);
  const begun = connectPlain(served.agent.port, '127.0.0.1');
  begun.on('error', () => undefined).resume();
  await once(begun, 'connect');
  const { port } = served.agent;
  const drained = served.agent.drain();
  await until('a begun handshake is closed', () => begun.closed);
  const socket = connectPlain(port, '127.0.0.1');
  await t.throwsAsync(once(socket, 'connect'));
  finish();
  t.is(await running, 'OK');
  await drained;
});

test('an address that is in use is an error that names the option', async (t) => {
  const { agent } = await serveFakeAgent(t);
  const { serveAgent } = await import('../../../../src/rpc/agent/server.ts');
  const { csiContext, memoryLog } = await import('../../../helpers/csi-server.ts');
  const { fakeVolumes } = await import('../../../helpers/fake-volumes.ts');
  await t.throwsAsync(
    serveAgent({
      address: { host: '127.0.0.1', port: agent.port },
      tlsDir: '/nonexistent',
      context: csiContext(fakeVolumes().volumes),
      log: memoryLog().log,
      callEnded: () => undefined,
      connectionRefused: () => undefined,
    }),
    { instanceOf: VolumeError, message: /--agent-address: cannot listen on 127.0.0.1 port \d+/ },
  );
});
