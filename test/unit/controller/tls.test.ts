import test, { type ExecutionContext } from 'ava';
import { pollUntil } from '../../../src/async.ts';
import { tlsCredentials } from '../../../src/controller/tls.ts';
import { issueCertificate, type KeyPair, makeAuthority } from '../../../src/tls/authority.ts';
import { FollowedCredentials } from '../../../src/tls/credentials.ts';
import { roleUri } from '../../../src/tls/roles.ts';
import {
  issueUnusual,
  makeCertificates,
  purposes,
  temporaryDirectory,
  writeTlsFiles,
} from '../../helpers/certificates.ts';
import { startTestController } from '../../helpers/controller.ts';
import { memoryLog } from '../../helpers/csi-server.ts';
import { startFakeAgent } from '../../helpers/fake-agent.ts';

const driverName = 'loopcsi.io';

function serverSide({ certificate, key }: KeyPair, ca: string) {
  return { cert: certificate, key, ca, requestCert: true, ALPNProtocols: ['h2'] };
}

async function follow(t: ExecutionContext, directory: string) {
  const { log } = memoryLog();
  const options = { directory, driverName, role: 'controller', log, pollMs: 20 } as const;
  const followed = await FollowedCredentials.follow(options);
  t.teardown(() => {
    followed.close();
  });
  return tlsCredentials(followed, driverName);
}

test('an agent with the role agent and a certificate of the authority is called', async (t) => {
  const { authority, controller, agent } = await makeCertificates();
  const directory = await temporaryDirectory(t);
  await writeTlsFiles(directory, controller, authority.certificate);
  const node = await startFakeAgent(t, 'node-a', { tls: serverSide(agent, authority.certificate) });
  const { until } = await startTestController(t, [node], {
    credentials: await follow(t, directory),
  });
  await t.notThrowsAsync(until('node-a', 'ready'));
});

test('peers with another role, authority or driver are refused, and the reason is about the certificate', async (t) => {
  const { authority, controller } = await makeCertificates();
  const foreign = await makeCertificates();
  const otherDriver = await issueCertificate(authority, { driverName: 'other.io', role: 'agent' });
  const directory = await temporaryDirectory(t);
  await writeTlsFiles(directory, controller, authority.certificate);
  const credentials = await follow(t, directory);
  // The extended key usage decides, not the role alone.
  const clientOnly = await issueUnusual({
    issuer: authority,
    uris: [roleUri(driverName, 'agent')],
    purposes: [purposes.client],
  });
  const cases = [
    { name: 'purpose', pair: clientOnly, why: /unsuitable certificate purpose/ },
    { name: 'role', pair: controller, why: /unsuitable certificate purpose|has role controller/ },
    { name: 'authority', pair: foreign.agent, why: /certificate/ },
    { name: 'driver', pair: otherDriver, why: /not for loopcsi\.io/ },
  ];
  for (const { name, pair, why } of cases) {
    const node = await startFakeAgent(t, 'node-a', {
      tls: serverSide(pair, authority.certificate),
    });
    const { until, running } = await startTestController(t, [node], { credentials });
    await until(node.address, 'refused');
    const { absence } = running.agents.nodes()[0] ?? {};
    t.regex(absence?.kind === 'refused' ? absence.why : '', why, name);
    t.deepEqual(node.calls, []);
  }
});

test('a controller without certificates waits for them, and follows their replacement', async (t) => {
  const { authority, controller, agent } = await makeCertificates();
  const directory = await temporaryDirectory(t);
  const node = await startFakeAgent(t, 'node-a', { tls: serverSide(agent, authority.certificate) });
  const credentials = await follow(t, directory);
  const { until, running } = await startTestController(t, [node], { credentials });
  await until(node.address, 'unreachable');
  const other = await makeAuthority();
  const wrong = await issueCertificate(other, { driverName, role: 'controller' });
  await writeTlsFiles(directory, wrong, authority.certificate);
  const isClosed = async () =>
    pollUntil(
      () => {
        const { absence } = running.agents.nodes()[0] ?? {};
        return absence?.kind === 'unreachable' && absence.problem.includes('its log says why');
      },
      { timeoutMs: 60_000, pauseMs: 10 },
    );
  t.true(await isClosed());
  await writeTlsFiles(directory, controller, authority.certificate);
  await t.notThrowsAsync(until('node-a', 'ready'));
});

test('a connection to an agent ends when its authority is not trusted any more, but not when only the agent refuses', async (t) => {
  const { authority, controller, agent } = await makeCertificates();
  const directory = await temporaryDirectory(t);
  await writeTlsFiles(directory, controller, authority.certificate);
  const node = await startFakeAgent(t, 'node-a', { tls: serverSide(agent, authority.certificate) });
  const { until, running } = await startTestController(t, [node], {
    credentials: await follow(t, directory),
  });
  await until('node-a', 'ready');
  const other = await makeAuthority();
  const foreign = await issueCertificate(other, { driverName, role: 'controller' });
  // The agent does not know this authority yet: the earlier connection is used until it does.
  await writeTlsFiles(directory, foreign, `${authority.certificate}${other.certificate}`);
  // Attempts with the new certificate are refused again and again meanwhile.
  const isReady = () => running.agents.nodes()[0]?.agent !== undefined;
  t.false(await pollUntil(() => !isReady(), { timeoutMs: 1_000, pauseMs: 10 }));
  await writeTlsFiles(directory, foreign, other.certificate);
  await until('node-a', 'refused');
  const { absence } = running.agents.nodes()[0] ?? {};
  t.regex(absence?.kind === 'refused' ? absence.why : '', /certificate/);
});
