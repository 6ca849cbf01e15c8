import { X509Certificate } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import {
  checkCertificates,
  type KeptCertificates,
  keepCertificates,
} from '../../../../src/controller/certificates/keep.ts';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { type Role, roleOf, roles } from '../../../../src/tls/roles.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';
import { until } from '../../../helpers/until.ts';

const collection = '/api/v1/namespaces/storage/secrets';
const driverName = 'loopcsi.io';
const dayMs = 24 * 60 * 60 * 1000;
const startMs = Date.parse('2026-11-27T00:00:00Z');

interface Files {
  readonly authorities: string;
  readonly certificate: string;
}

async function start(t: ExecutionContext) {
  const api = await FakeKubeApi.start();
  const client = makeKubeClient(api.access, { timeoutMs: 60_000 });
  t.teardown(async () => {
    client.close();
    await api.stop();
  });
  for (const name of ['ca', 'controller-tls', 'agent-tls']) {
    api.put(collection, { metadata: { name: `r1-loopcsi-${name}` }, type: 'Opaque' });
  }
  const clock = { nowMs: startMs };
  const kept: KeptCertificates = {
    client,
    namespace: 'storage',
    prefix: 'r1-loopcsi',
    driverName,
    log: pino({ level: 'silent' }),
    now: () => clock.nowMs,
  };
  const texts = (name: string): Readonly<Record<string, string>> => {
    const secret = api.find(collection, `r1-loopcsi-${name}`) as unknown as { data?: object };
    return Object.fromEntries(
      Object.entries(secret.data ?? {}).map(([key, value]) => [
        key,
        Buffer.from(String(value), 'base64').toString(),
      ]),
    );
  };
  /** Files that a pod gets from its Secret; undefined while it is empty. */
  const filesOf = (role: Role): Files | undefined => {
    const { 'ca.crt': authorities, 'tls.crt': certificate } = texts(`${role}-tls`);
    return authorities === undefined || certificate === undefined
      ? undefined
      : { authorities, certificate };
  };
  const writes = (): number => api.requests.filter((one) => one.startsWith('PUT')).length;
  return { api, kept, clock, texts, filesOf, writes };
}
type Fixture = Awaited<ReturnType<typeof start>>;

const certificatesIn = (bundle: string): readonly X509Certificate[] =>
  (bundle.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? []).map(
    (pem) => new X509Certificate(pem),
  );

/** Whether a peer with these files accepts the other's certificate at this moment. */
function trusts({ authorities }: Files, { certificate }: Files, nowMs: number): boolean {
  const leaf = new X509Certificate(certificate);
  const isValid = (one: X509Certificate): boolean =>
    Date.parse(one.validFrom) <= nowMs && nowMs < Date.parse(one.validTo);
  return (
    isValid(leaf) &&
    certificatesIn(authorities).some(
      (authority) =>
        isValid(authority) && leaf.checkIssued(authority) && leaf.verify(authority.publicKey),
    )
  );
}

/** Throws unless controller and agent with these files trust each other. */
function assertTrust(controller: Files, agent: Files, nowMs: number, what: string): void {
  if (!trusts(controller, agent, nowMs)) throw new Error(`${what}: the controller refuses agents`);
  if (!trusts(agent, controller, nowMs)) throw new Error(`${what}: agents refuse the controller`);
}

function isComplete({ filesOf, clock }: Fixture): boolean {
  const [controller, agent] = [filesOf('controller'), filesOf('agent')];
  return (
    controller !== undefined &&
    agent !== undefined &&
    trusts(controller, agent, clock.nowMs) &&
    trusts(agent, controller, clock.nowMs)
  );
}

test('empty Secrets are filled: an authority of 10 years, certificates of 90 days with their role', async (t) => {
  const fixture = await start(t);
  await checkCertificates(fixture.kept);
  t.true(isComplete(fixture));
  t.is(fixture.writes(), 3);
  const { validTo } = new X509Certificate(fixture.texts('ca')['tls.crt'] ?? '');
  t.is(Math.round((Date.parse(validTo) - startMs) / dayMs), 3650);
  for (const role of roles) {
    const leaf = new X509Certificate(fixture.texts(`${role}-tls`)['tls.crt'] ?? '');
    t.is(roleOf(leaf, driverName).role, role);
    t.is(Math.round((Date.parse(leaf.validTo) - startMs) / dayMs), 90);
    t.false('next.key' in fixture.texts(`${role}-tls`));
  }
  await checkCertificates(fixture.kept);
  t.is(fixture.writes(), 3, 'a second look changes nothing');
});

test('certificates are renewed after 60 days and not before; the authority stays', async (t) => {
  const { kept, clock, texts, writes } = await start(t);
  await checkCertificates(kept);
  const before = texts('ca');
  clock.nowMs = startMs + 59 * dayMs;
  await checkCertificates(kept);
  t.is(writes(), 3);
  clock.nowMs = startMs + 61 * dayMs;
  await checkCertificates(kept);
  t.is(writes(), 5);
  t.deepEqual(texts('ca'), before);
});

/** Every 20 days, and every day while an authority is replaced. */
const days = Array.from({ length: 3600 }, (_, day) => day).filter(
  (day) => day % 20 === 0 || (day > 3465 && day < 3495),
);

test('for 10 years, pods whose Secrets are up to 6 days old always trust each other', async (t) => {
  const fixture = await start(t);
  const { kept, clock, filesOf } = fixture;
  const history: { readonly untilMs: number; readonly role: Role; readonly files: Files }[] = [];
  const authorities = new Set<string>();
  for (const day of days) {
    clock.nowMs = startMs + day * dayMs;
    const replaced = roles.flatMap((role) => {
      const files = filesOf(role);
      return files === undefined ? [] : [{ untilMs: clock.nowMs, role, files }];
    });
    await checkCertificates(kept);
    history.push(...replaced);
    authorities.add(fixture.texts('ca')['tls.crt'] ?? '');
    const usedBy = (role: Role): readonly Files[] => [
      filesOf(role) as Files,
      ...history
        .filter((one) => one.role === role && clock.nowMs - one.untilMs <= 6 * dayMs)
        .map(({ files }) => files),
    ];
    for (const controller of usedBy('controller')) {
      for (const agent of usedBy('agent')) {
        assertTrust(controller, agent, clock.nowMs, `day ${day}`);
      }
    }
  }
  t.is(authorities.size, 2, 'the authority was replaced');
  const bundle = certificatesIn(fixture.texts('agent-tls')['ca.crt'] ?? '');
  t.is(bundle.length, 1, 'the old authority is no longer trusted');
});

/** The moments at which something is due: the first start, the next authority, its promotion, the end of the previous one. */
const moments = [0, 3471, 3479, 3487].map((day) => startMs + day * dayMs);
const writesOfMoments = [3, 4, 4, 3];
const names = ['ca', 'controller-tls', 'agent-tls'].map((name) => `r1-loopcsi-${name}`);

/** The Secrets before each moment, as they are without kills. */
async function secretsBeforeMoments(t: ExecutionContext): Promise<readonly (readonly object[])[]> {
  const { api, kept, clock, writes } = await start(t);
  const before: (readonly object[])[] = [];
  const counts: number[] = [];
  for (const nowMs of moments) {
    clock.nowMs = nowMs;
    // Certificates of the moment before, which have expired if that was long ago, are not what is tested.
    if (nowMs === moments[1]) {
      clock.nowMs = nowMs - 61 * dayMs;
      await checkCertificates(kept);
      clock.nowMs = nowMs;
    }
    before.push(names.map((name) => structuredClone(api.find(collection, name)) as object));
    const done = writes();
    await checkCertificates(kept);
    counts.push(writes() - done);
  }
  t.deepEqual(counts, writesOfMoments);
  return before;
}

test('killed before or after any write of any step, the next controller completes it, and nobody is refused meanwhile', async (t) => {
  const before = await secretsBeforeMoments(t);
  const kills = moments.flatMap((nowMs, moment) =>
    Array.from({ length: writesOfMoments[moment] ?? 0 }, (_, index) => index + 1).flatMap(
      (killedAt) =>
        (['drop-before', 'drop-after'] as const).map((kind) => ({ nowMs, moment, killedAt, kind })),
    ),
  );
  const fixture = await start(t);
  const { api, kept, clock, filesOf } = fixture;
  const files = (): readonly (Files | undefined)[] => roles.map(filesOf);
  for (const { nowMs, moment, killedAt, kind } of kills) {
    for (const secret of before[moment] ?? []) api.put(collection, secret);
    clock.nowMs = nowMs;
    let count = 0;
    api.interfere = (request) => {
      // A process that was killed sends nothing more.
      if (count >= killedAt) return 'drop-before';
      if (request.startsWith('PUT')) count += 1;
      return count === killedAt ? kind : undefined;
    };
    const states = [files()];
    await t.throwsAsync(checkCertificates(kept), { message: /^(?:GET|PUT) / });
    states.push(files());
    api.interfere = () => undefined;
    await checkCertificates(kept);
    states.push(files());
    const what = `moment ${moment}, ${kind} ${killedAt}`;
    for (const [controller] of states) {
      for (const [, agent] of states) {
        if (controller !== undefined && agent !== undefined)
          assertTrust(controller, agent, nowMs, what);
      }
    }
    t.true(isComplete(fixture), what);
    const bundle = certificatesIn(fixture.texts('ca')['ca.crt'] ?? '');
    t.is(bundle.length, moment === 1 || moment === 2 ? 2 : 1, what);
  }
});

test('two controllers that both believe to lead end with Secrets that fit together, whatever the order of their writes', async (t) => {
  for (let turn = 0; turn < 4; turn += 1) {
    const fixture = await start(t);
    const { api, kept, clock } = fixture;
    for (const nowMs of moments) {
      clock.nowMs = nowMs;
      let writes = 0;
      // The other controller works between the read and the write of this one.
      const others: Promise<void>[] = [];
      api.beforeWrite = () => {
        writes += 1;
        if (writes === 1 + turn) others.push(checkCertificates(kept));
      };
      await Promise.all([checkCertificates(kept), checkCertificates(kept)]);
      await Promise.all(others);
      t.true(isComplete(fixture), `turn ${turn}`);
    }
    const authority = fixture.texts('ca')['tls.crt'];
    const bundles = ['ca', 'controller-tls', 'agent-tls'].map(
      (name) => fixture.texts(name)['ca.crt'],
    );
    t.deepEqual(bundles, [authority, authority, authority]);
  }
});

test('emptied Secrets are a new authority at once; a damaged certificate is issued again', async (t) => {
  const fixture = await start(t);
  const { api, kept, texts } = fixture;
  await checkCertificates(kept);
  const first = texts('ca')['tls.crt'];
  api.put(collection, { metadata: { name: 'r1-loopcsi-ca' }, type: 'Opaque' });
  await checkCertificates(kept);
  t.not(texts('ca')['tls.crt'], first);
  t.true(isComplete(fixture));
  for (const [key, value] of [
    ['tls.crt', 'no certificate'],
    ['tls.key', 'no key'],
    ['ca.crt', ''],
  ] as const) {
    const secret = api.find(collection, 'r1-loopcsi-agent-tls') as unknown as { data: object };
    const data = { ...secret.data, [key]: Buffer.from(value).toString('base64') };
    api.put(collection, { ...secret, metadata: { name: 'r1-loopcsi-agent-tls' }, data });
    await checkCertificates(kept);
    t.true(isComplete(fixture), key);
  }
  const exchanged = api.find(collection, 'r1-loopcsi-agent-tls') as unknown as { data: object };
  api.put(collection, { ...exchanged, metadata: { name: 'r1-loopcsi-controller-tls' } });
  await checkCertificates(kept);
  const leaf = new X509Certificate(texts('controller-tls')['tls.crt'] ?? '');
  t.is(roleOf(leaf, driverName).role, 'controller', 'a certificate of the other role is replaced');
});

test('metadata that others wrote, and the type, stay', async (t) => {
  const { api, kept } = await start(t);
  const metadata = {
    name: 'r1-loopcsi-ca',
    labels: { team: 'a' },
    annotations: { 'helm.sh/x': 'y' },
  };
  api.put(collection, { metadata, type: 'Opaque' });
  await checkCertificates(kept);
  t.like(api.find(collection, 'r1-loopcsi-ca'), { metadata, type: 'Opaque' });
});

test('a missing Secret is named with the remedy, and the check is repeated', async (t) => {
  const { api, kept } = await start(t);
  api.remove(collection, 'r1-loopcsi-agent-tls');
  await t.throwsAsync(checkCertificates(kept), {
    message:
      'Secret storage/r1-loopcsi-agent-tls does not exist, and the controller may not create it: run helm upgrade, which creates it empty',
  });
  const messages: string[] = [];
  const log = pino({}, { write: (line: string) => messages.push(line) });
  const stopped = new AbortController();
  const keeping = keepCertificates({ ...kept, log }, stopped.signal);
  await until('the problem is logged', () => messages.join('').includes('run helm upgrade'));
  stopped.abort();
  await keeping;
});
