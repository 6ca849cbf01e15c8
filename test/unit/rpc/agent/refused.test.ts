import { once } from 'node:events';
import { connect as connectPlain, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { dataProtocol } from '../../../../src/rpc/agent/frames.ts';
import { issueCertificate, type KeyPair, makeAuthority } from '../../../../src/tls/authority.ts';
import { roleUri } from '../../../../src/tls/roles.ts';
import { connectTls, controllerOf, serveFakeAgent } from '../../../helpers/agent.ts';
import {
  issueUnusual,
  makeCertificates,
  purposes,
  writeTlsFiles,
} from '../../../helpers/certificates.ts';
import { codeOf } from '../../../helpers/csi-server.ts';
import { until } from '../../../helpers/until.ts';

const dayMs = 24 * 60 * 60 * 1000;
const controllerUri = roleUri('loopcsi.io', 'controller');
const asController = { driverName: 'loopcsi.io', role: 'controller' } as const;

async function closed(socket: Socket): Promise<void> {
  await until('the connection is closed', () => socket.closed);
}

/** Makes the certificate that a peer presents, and returns the reason for which the agent must refuse it. */
type Case = (given: {
  readonly authority: KeyPair;
  readonly agent: KeyPair;
  readonly controller: KeyPair;
}) => Promise<{ readonly pair: KeyPair | undefined; readonly reason: string | readonly string[] }>;

const cases: Readonly<Record<string, Case>> = {
  'an agent': async ({ agent }) => ({ pair: agent, reason: 'wrong-role' }),
  'no certificate': async () => ({ pair: undefined, reason: 'no-certificate' }),
  'a controller of another driver': async ({ authority }) => ({
    pair: await issueCertificate(authority, { ...asController, driverName: 'other.io' }),
    reason: 'other-driver',
  }),
  'a controller of a foreign authority': async () => ({
    pair: await issueCertificate(await makeAuthority(), asController),
    reason: 'untrusted',
  }),
  'a foreign authority with the name of ours': async ({ authority }) => {
    // Signed by a key that is not the authority's, but naming it as the issuer.
    const foreign = { ...(await makeAuthority()), certificate: authority.certificate };
    return {
      pair: await issueUnusual({ issuer: foreign, uris: [controllerUri] }),
      reason: 'untrusted',
    };
  },
  'a self-signed controller': async () => ({
    pair: await issueUnusual({ uris: [controllerUri] }),
    reason: 'untrusted',
  }),
  'a self-signed authority with the role': async () => ({
    pair: await issueUnusual({ uris: [controllerUri], isAuthority: true }),
    reason: 'untrusted',
  }),
  'an expired controller': async ({ authority }) => ({
    pair: await issueCertificate(authority, asController, {
      nowMs: Date.now() - 2 * dayMs,
      lifetimeMs: dayMs,
    }),
    reason: 'expired',
  }),
  'a controller of tomorrow': async ({ authority }) => ({
    pair: await issueCertificate(authority, asController, { nowMs: Date.now() + dayMs }),
    reason: 'not-yet-valid',
  }),
  'no role': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, dnsNames: ['controller'] }),
    reason: 'no-role',
  }),
  'no alternative name at all': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority }),
    reason: 'no-role',
  }),
  'the role as a DNS name': async ({ authority }) => ({
    pair: await issueUnusual({
      issuer: authority,
      dnsNames: [controllerUri, `a, URI:${controllerUri}`],
    }),
    reason: 'no-role',
  }),
  'the role in the common name only': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, commonName: controllerUri }),
    reason: 'no-role',
  }),
  'a role of any driver': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: ['loopcsi://*/controller'] }),
    reason: 'other-driver',
  }),
  'the scheme in upper case': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: ['LOOPCSI://loopcsi.io/controller'] }),
    reason: 'other-driver',
  }),
  'a role with a query': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [`${controllerUri}?`] }),
    reason: 'no-role',
  }),
  'an encoded role': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: ['loopcsi://loopcsi.io/%63ontroller'] }),
    reason: 'no-role',
  }),
  'a role with a zero byte at its end': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [`${controllerUri}\0.evil.example`] }),
    reason: ['no-role', 'untrusted', 'handshake-failed'],
  }),
  'the role twice': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [controllerUri, controllerUri] }),
    reason: 'several-roles',
  }),
  'roles of two drivers': async ({ authority }) => ({
    pair: await issueUnusual({
      issuer: authority,
      uris: [controllerUri, roleUri('other.io', 'controller')],
    }),
    reason: 'several-roles',
  }),
  'a signature with SHA-1': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [controllerUri], hash: 'SHA-1' }),
    reason: ['untrusted', 'handshake-failed'],
  }),
  'a certificate for signing code': async ({ authority }) => ({
    pair: await issueUnusual({
      issuer: authority,
      uris: [controllerUri],
      purposes: [purposes.codeSigning],
    }),
    reason: 'untrusted',
  }),
  'an intermediate authority, which ours does not allow': async ({ authority }) => {
    const intermediate = await issueUnusual({ issuer: authority, isAuthority: true });
    const pair = await issueUnusual({ issuer: intermediate, uris: [controllerUri] });
    return {
      pair: { ...pair, certificate: `${pair.certificate}\n${intermediate.certificate}` },
      reason: 'untrusted',
    };
  },
  'two roles': async ({ authority }) => ({
    pair: await issueUnusual({
      issuer: authority,
      uris: [controllerUri, roleUri('loopcsi.io', 'agent')],
    }),
    reason: 'several-roles',
  }),
  'the authority itself': async ({ authority }) => ({
    pair: authority,
    reason: ['untrusted', 'ca-certificate'],
  }),
  'a subordinate authority with the role': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [controllerUri], isAuthority: true }),
    reason: ['untrusted', 'ca-certificate'],
  }),
  'a controller that an agent issued': async ({ agent }) => {
    const pair = await issueUnusual({ issuer: agent, uris: [controllerUri] });
    return {
      pair: { ...pair, certificate: `${pair.certificate}\n${agent.certificate}` },
      reason: 'untrusted',
    };
  },
  'a certificate for servers only': async ({ authority }) => ({
    pair: await issueUnusual({
      issuer: authority,
      uris: [controllerUri],
      purposes: [purposes.server],
    }),
    reason: 'untrusted',
  }),
  'an RSA key of 1024 bits': async ({ authority }) => ({
    pair: await issueUnusual({ issuer: authority, uris: [controllerUri], rsaBits: 1024 }),
    reason: ['untrusted', 'handshake-failed'],
  }),
};

for (const [name, make] of Object.entries(cases)) {
  test(`refused: ${name}`, async (t) => {
    const served = await serveFakeAgent(t);
    const { pair, reason } = await make(served.certificates);
    const expected = typeof reason === 'string' ? [reason] : reason;
    // Twice, for the log.
    for (const count of [1, 2]) {
      const socket = connectTls(t, served.agent.port, { pair });
      await closed(socket);
      await until('it is counted', () => served.refused.length === count);
    }
    for (const one of served.refused) t.true(expected.includes(one), one);
    const refusals = served.lines.filter((line) => line.includes('was refused'));
    t.is(refusals.length, 1);
    t.regex(refusals[0] ?? '', /"peer":"127.0.0.1"/);
    t.is(
      await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
      'OK',
    );
  });
}

test('a certificate of an RSA key of 2048 bits is accepted', async (t) => {
  const served = await serveFakeAgent(t);
  const controller = await issueUnusual({
    issuer: served.certificates.authority,
    uris: [controllerUri],
    rsaBits: 2048,
  });
  const { identity } = controllerOf(t, served.agent.port, { ...served.certificates, controller });
  t.is(await codeOf(identity.Probe({})), 'OK');
});

test('an authority of an operator: intermediates are accepted, and other names beside the role', async (t) => {
  const authority = await issueUnusual({ commonName: 'root', isAuthority: true });
  const intermediate = await issueUnusual({
    issuer: authority,
    commonName: 'intermediate',
    isAuthority: true,
  });
  const below = async (uri: string): Promise<KeyPair> => {
    const pair = await issueUnusual({
      issuer: intermediate,
      uris: ['spiffe://example.org/loopcsi', uri],
      dnsNames: ['machine-1.example.org', 'machine-1'],
      purposes: [purposes.server, purposes.client],
    });
    return { ...pair, certificate: `${pair.certificate}\n${intermediate.certificate}` };
  };
  const certificates = {
    authority,
    agent: await below(roleUri('loopcsi.io', 'agent')),
    controller: await below(controllerUri),
  };
  const served = await serveFakeAgent(t, { certificates });
  const { identity } = controllerOf(t, served.agent.port, certificates);
  t.is(await codeOf(identity.Probe({})), 'OK');
});

test('a controller that sends half of the preface of HTTP/2, and then nothing, is disconnected', async (t) => {
  const served = await serveFakeAgent(t, { keepalive: { pingMs: 200, timeoutMs: 200 } });
  const socket = connectTls(t, served.agent.port, { pair: served.certificates.controller });
  await once(socket, 'secureConnect');
  socket.write('PRI * HTTP/2.0\r\n');
  await closed(socket);
  t.deepEqual(served.refused, []);
});

// Serial, because it takes all of the process.
test.serial(
  '1,000 connections that never end their handshake cannot keep a controller out',
  async (t) => {
    const served = await serveFakeAgent(t);
    const sockets = Array.from({ length: 1_000 }, () => connectTo(t, served.agent.port));
    await until('all but 64 are refused', () => served.refused.length >= 936, 180_000);
    const { identity } = controllerOf(t, served.agent.port, served.certificates);
    t.is(await codeOf(identity.Probe({})), 'OK');
    t.is(served.lines.filter((line) => line.includes('was refused')).length, 1);
    for (const socket of sockets) socket.destroy();
  },
);

test('refused: TLS 1.2, and a peer that asks for another protocol than those of its role', async (t) => {
  const served = await serveFakeAgent(t, { volumes: { allowsTransfers: true } });
  const pair = served.certificates.controller;
  const port = served.agent.port;
  await closed(connectTls(t, port, { pair, maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' }));
  await until('TLS 1.2 is refused', () => served.refused.includes('tls-version'));
  await closed(connectTls(t, port, { pair, ALPNProtocols: [] }));
  await closed(connectTls(t, port, { pair, ALPNProtocols: ['http/1.1'] }));
  await until('HTTP/1 is refused', () => served.refused.length === 3);
  // Only other agents read data.
  await closed(connectTls(t, port, { pair, ALPNProtocols: [dataProtocol] }));
  await until('the protocol of data is refused', () => served.refused.length === 4);
  t.deepEqual(served.refused, ['tls-version', 'not-http2', 'not-http2', 'not-http2']);
});

function connectTo(t: ExecutionContext, port: number): Socket {
  const socket = connectPlain(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume();
  t.teardown(() => {
    socket.destroy();
  });
  return socket;
}

test('refused: plain text and garbage', async (t) => {
  const served = await serveFakeAgent(t);
  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
    '\0'.repeat(5000),
    '\x16\x03\x01\x02\x00\x01\xff\xff\xff'.padEnd(2000, 'x'),
    '\x15\x03\x03\x00\x02\x02\x28',
  ]) {
    const before = served.refused.length;
    const socket = connectTo(t, served.agent.port);
    socket.write(bytes, 'latin1');
    await closed(socket);
    await until('it is counted', () => served.refused.length > before);
  }
  t.is(
    await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
    'OK',
  );
  for (const reason of served.refused)
    t.true(['not-tls', 'handshake-failed', 'tls-version'].includes(reason), reason);
});

test('refused: a slow handshake, also one that never stops sending', async (t) => {
  const served = await serveFakeAgent(t, { limits: { handshakeTimeoutMs: 1_000 } });
  const silent = connectTo(t, served.agent.port);
  const slow = connectTo(t, served.agent.port);
  // The header of a ClientHello of 512 bytes, and then a byte at a time.
  slow.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 'latin1');
  const drip = setInterval(() => slow.write('x'), 100);
  t.teardown(() => {
    clearInterval(drip);
  });
  await Promise.all([closed(silent), closed(slow)]);
  t.deepEqual(served.refused, ['handshake-timeout', 'handshake-timeout']);
});

test('a probe that only connects is not counted', async (t) => {
  const served = await serveFakeAgent(t);
  const socket = connectTo(t, served.agent.port);
  await once(socket, 'connect');
  socket.end();
  await closed(socket);
  t.is(
    await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
    'OK',
  );
  t.deepEqual(served.refused, []);
});

test('silent connections cannot keep a controller out', async (t) => {
  const served = await serveFakeAgent(t, { limits: { maxHandshakes: 8 } });
  const sockets = Array.from({ length: 60 }, () => connectTo(t, served.agent.port));
  await until('most are refused', () => served.refused.length >= 52);
  t.true(served.refused.every((reason) => reason === 'too-many-connections'));
  t.is(
    await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
    'OK',
  );
  t.is(served.lines.filter((line) => line.includes('was refused')).length, 1);
  for (const socket of sockets) socket.destroy();
});

test('connections beyond the limit are refused, earlier ones keep working', async (t) => {
  const served = await serveFakeAgent(t, { limits: { maxConnections: 2 } });
  const [one, two, three] = [1, 2, 3].map(
    () => controllerOf(t, served.agent.port, served.certificates).identity,
  );
  t.is(await codeOf(one?.Probe({}) ?? Promise.resolve()), 'OK');
  t.is(await codeOf(two?.Probe({}) ?? Promise.resolve()), 'OK');
  t.is(await codeOf(three?.Probe({}) ?? Promise.resolve()), 'UNAVAILABLE');
  t.true(served.refused.includes('too-many-connections'));
  t.is(await codeOf(one?.Probe({}) ?? Promise.resolve()), 'OK');
});

test('without certificates every connection is refused, until they appear', async (t) => {
  const served = await serveFakeAgent(t, { hasFiles: false });
  t.regex(served.agent.findProblem() ?? '', /ca.crt cannot be read/);
  const pair = served.certificates.controller;
  await closed(connectTls(t, served.agent.port, { pair }));
  t.deepEqual([...new Set(served.refused)], ['no-credentials']);
  await writeTlsFiles(
    served.tlsDir,
    served.certificates.agent,
    served.certificates.authority.certificate,
  );
  await until('the files are read', () => served.agent.findProblem() === undefined);
  t.is(
    await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
    'OK',
  );
});

test('no session is resumed', async (t) => {
  const served = await serveFakeAgent(t);
  const pair = served.certificates.controller;
  const first = connectTls(t, served.agent.port, { pair });
  const sessions: Buffer[] = [];
  first.on('session', (session) => sessions.push(session));
  await once(first, 'secureConnect');
  t.is(
    await codeOf(controllerOf(t, served.agent.port, served.certificates).identity.Probe({})),
    'OK',
  );
  const session = sessions.at(-1) ?? first.getSession();
  const second = connectTls(t, served.agent.port, { pair, session });
  await once(second, 'secureConnect');
  t.false(second.isSessionReused());
});

// Serial, because it counts the sockets of the process.
test.serial('nothing is left of refused connections', async (t) => {
  const count = (): number =>
    process.getActiveResourcesInfo().filter((name) => /TCP|TLS/.test(name)).length;
  const before = count();
  const served = await serveFakeAgent(t, { limits: { handshakeTimeoutMs: 500 } });
  const other = await makeCertificates();
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(
      [other.controller, served.certificates.agent, undefined].map((pair) =>
        closed(connectTls(t, served.agent.port, { pair })),
      ),
    );
    const plain = connectTo(t, served.agent.port);
    plain.write('x'.repeat(1000));
    await closed(plain);
  }
  await closed(connectTo(t, served.agent.port));
  await served.agent.close();
  await until('all sockets are gone', () => count() <= before);
  // Once each. On a busy machine, a handshake may also be too slow.
  t.is(served.refused.length, 21);
});
