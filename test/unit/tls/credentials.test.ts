import { X509Certificate } from 'node:crypto';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { issueCertificate } from '../../../src/tls/authority.ts';
import { FollowedCredentials, readCredentials } from '../../../src/tls/credentials.ts';
import { makeCertificates, temporaryDirectory, writeTlsFiles } from '../../helpers/certificates.ts';
import { memoryLog } from '../../helpers/csi-server.ts';
import { until } from '../../helpers/until.ts';

const dayMs = 24 * 60 * 60 * 1000;
const agentOf = { driverName: 'loopcsi.io', role: 'agent' } as const;

async function follow(t: ExecutionContext, directory: string) {
  const { log, lines } = memoryLog();
  const followed = await FollowedCredentials.follow({ directory, ...agentOf, log, pollMs: 10 });
  t.teardown(() => {
    followed.close();
  });
  return { followed, linesWith: (text: string) => lines.filter((line) => line.includes(text)) };
}

test('a missing directory is awaited and logged once', async (t) => {
  const directory = join(await temporaryDirectory(t), 'later');
  const { followed, linesWith } = await follow(t, directory);
  t.is(followed.current, undefined);
  t.regex(followed.problem ?? '', /later\/ca.crt cannot be read: ENOENT/);
  const seen: string[] = [];
  followed.subscribe(({ digest }) => seen.push(digest));
  const { authority, agent } = await makeCertificates();
  await mkdir(directory);
  await writeTlsFiles(directory, agent, authority.certificate);
  await until('they are found', () => followed.current !== undefined);
  t.is(followed.problem, undefined);
  t.deepEqual(seen, [followed.current?.digest ?? '']);
  t.is(linesWith('ca.crt cannot be read').length, 1);
  t.is(linesWith('TLS certificates were loaded').length, 1);
});

test("the kubelet's replacement of the linked directory is followed", async (t) => {
  const directory = await temporaryDirectory(t);
  const { authority, agent } = await makeCertificates();
  const publish = async (version: string, pair: typeof agent): Promise<void> => {
    await mkdir(join(directory, version));
    await writeTlsFiles(join(directory, version), pair, authority.certificate);
    await symlink(version, join(directory, '..data_tmp'));
    await rename(join(directory, '..data_tmp'), join(directory, '..data'));
  };
  await publish('..1', agent);
  for (const name of ['ca.crt', 'tls.crt', 'tls.key'])
    await symlink(`..data/${name}`, join(directory, name));
  const { followed } = await follow(t, directory);
  const first = followed.current?.certificate;
  t.is(first, agent.certificate);
  const renewed = await issueCertificate(authority, agentOf);
  await publish('..2', renewed);
  await rm(join(directory, '..1'), { recursive: true });
  await until('the new ones are used', () => followed.current?.certificate === renewed.certificate);
});

test('unusable new files keep the old ones and are logged once', async (t) => {
  const directory = await temporaryDirectory(t);
  const { authority, agent, controller } = await makeCertificates();
  const other = await issueCertificate(authority, agentOf);
  await writeTlsFiles(directory, agent, authority.certificate);
  const { followed, linesWith } = await follow(t, directory);
  const { current } = followed;
  const loadedLines = linesWith('').length;
  let changes = -1;
  followed.subscribe(() => {
    changes += 1;
  });
  const expired = await issueCertificate(authority, agentOf, {
    nowMs: Date.now() - 20 * dayMs,
    lifetimeMs: 10 * dayMs,
  });
  const future = await issueCertificate(authority, agentOf, { nowMs: Date.now() + dayMs });
  const cases: readonly [RegExp, string, string, string][] = [
    [
      /tls.key is not usable: it is not the key of tls.crt/,
      agent.certificate,
      other.key,
      authority.certificate,
    ],
    [/tls.crt is not usable/, agent.certificate.slice(0, 100), agent.key, authority.certificate],
    [/tls.key is not usable/, agent.certificate, '', authority.certificate],
    [/ca.crt is not usable: it contains no certificate/, agent.certificate, agent.key, ''],
    [
      /has role controller, but agent is expected/,
      controller.certificate,
      controller.key,
      authority.certificate,
    ],
    [/is one of an authority/, authority.certificate, authority.key, authority.certificate],
    [/expired at .*renew it/, expired.certificate, expired.key, authority.certificate],
    [/is valid from .*check the clock/, future.certificate, future.key, authority.certificate],
  ];
  for (const [problem, certificate, key, authorities] of cases) {
    const before = linesWith('').length;
    await writeTlsFiles(directory, { certificate, key }, authorities);
    await t.throwsAsync(readCredentials({ directory, ...agentOf }), { message: problem });
    const reported = () => linesWith('previous ones are kept').slice(before - loadedLines);
    await until(`${problem} is logged`, () => reported().some((line) => problem.test(line)));
    const { length } = reported();
    await delay(100);
    t.is(reported().length, length, 'the same problem was logged twice');
    t.is(followed.current, current);
    t.is(followed.problem, undefined);
  }
  t.is(changes, 0);
  await writeTlsFiles(directory, other, authority.certificate);
  await until('new ones are used', () => followed.current?.certificate === other.certificate);
  t.is(changes, 1);
});

test('a bundle may have several authorities, and its change is a change', async (t) => {
  const directory = await temporaryDirectory(t);
  const [one, other] = [await makeCertificates(), await makeCertificates()];
  await writeTlsFiles(directory, one.agent, one.authority.certificate);
  const { followed } = await follow(t, directory);
  t.is(followed.current?.authorityFingerprints.size, 1);
  const bundle = `comment\n${one.authority.certificate}\n${other.authority.certificate}`;
  await writeTlsFiles(directory, one.agent, bundle);
  await until('both are trusted', () => followed.current?.authorityFingerprints.size === 2);
  for (const { authority } of [one, other]) {
    const { fingerprint256 } = new X509Certificate(authority.certificate);
    t.true(followed.current?.authorityFingerprints.has(fingerprint256));
  }
});

test('certificates that expire in use are a problem', async (t) => {
  const directory = await temporaryDirectory(t);
  const { authority } = await makeCertificates();
  const short = await issueCertificate(authority, agentOf, { lifetimeMs: 10_000 });
  await writeTlsFiles(directory, short, authority.certificate);
  const { followed } = await follow(t, directory);
  t.not(followed.current, undefined);
  await until('it has expired', () => followed.problem !== undefined);
  t.regex(followed.problem ?? '', /expired at .*; renew it/);
});

test('a closed follower reads no more', async (t) => {
  const directory = await temporaryDirectory(t);
  const { authority, agent } = await makeCertificates();
  const { followed, linesWith } = await follow(t, directory);
  followed.close();
  await writeTlsFiles(directory, agent, authority.certificate);
  const second = await follow(t, directory);
  await until('another one reads them', () => second.followed.current !== undefined);
  t.is(followed.current, undefined);
  t.is(linesWith('were loaded').length, 0);
  await writeFile(join(directory, 'tls.key'), '');
});
