/** The certificates of controller and agents are replaced while claims are made, and no call fails. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { run } from '../../../../scripts/command.ts';
import { makeAuthority } from '../../../../src/tls/authority.ts';
import { type Role, roles } from '../../../../src/tls/roles.ts';
import { projectRoot } from '../../cluster/cache.ts';
import { eventually } from '../../eventually.ts';
import {
  countCertificates,
  failedCalls,
  secretTexts,
  serialNumberIn,
  untilAgentsReady,
  untilMounted,
} from '../../kube/certificates.ts';
import { classes, release, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { ClaimLoad } from '../../kube/claim-load.ts';
import { api, cluster, kubectl, Scenario } from '../../kube/scenario.ts';
import { changeShape } from '../../kube/shape.ts';

const dayMs = 24 * 60 * 60 * 1000;
const ofOwnAuthority: Readonly<Record<Role, string>> = {
  controller: `${release}-controller-tls`,
  agent: `${release}-agent-tls`,
};
const authoritySecret = `${release}-ca`;

test.after.always(async () => changeShape(false));

/** Writes texts to a Secret. */
async function writeSecret(name: string, texts: Readonly<Record<string, string>>): Promise<void> {
  const data = Object.entries(texts).map(([key, text]) => [
    key,
    Buffer.from(text).toString('base64'),
  ]);
  await api.patch('Secret', systemNamespace, name, { data: Object.fromEntries(data) as object });
}

/** Replaces the driver on every node and checks that the new processes and the controller trust each other. */
async function restartDrivers(): Promise<void> {
  const target = [`daemonset/${release}-node`, '--namespace', systemNamespace];
  await kubectl('rollout', 'restart', ...target);
  await kubectl('rollout', 'status', '--timeout=100s', ...target);
  await untilAgentsReady(cluster.nodes.length);
}

test.serial('the chart’s own authority is replaced step by step under load', async (t) => {
  t.timeout(20 * 60_000);
  await changeShape(true);
  await untilAgentsReady(cluster.nodes.length);
  // An authority that ends in a hundred days, so the controller begins to replace it.
  const { certificate, key } = await makeAuthority({ nowMs: Date.now() - 3_550 * dayMs });
  await writeSecret(authoritySecret, { 'tls.crt': certificate, 'tls.key': key });
  await untilBundle(2);
  await untilMounted(ofOwnAuthority);
  await untilAgentsReady(cluster.nodes.length);

  const scenario = await Scenario.begin(t, 'new-authority');
  const checker = await Checker.start(scenario, 'writer', classes.reflink);
  const load = new ClaimLoad(scenario, classes.immediate);
  await load.untilNextBound();
  const failed = await failedCalls();
  const first = await serialNumberIn(ofOwnAuthority.agent);
  // The next authority signs; the previous one is still trusted.
  await letAWeekPass();
  await eventually(
    'certificates of the next authority',
    async () => ((await serialNumberIn(ofOwnAuthority.agent)) === first ? undefined : true),
    { timeoutMs: 180_000 },
  );
  await untilMounted(ofOwnAuthority);
  t.is((await secretTexts(authoritySecret))['previous.crt']?.trim(), certificate.trim());
  await load.untilNextBound();
  t.deepEqual(await failedCalls(), failed);
  // The previous authority is dropped.
  await letAWeekPass();
  await untilBundle(1);
  await untilMounted(ofOwnAuthority);
  await load.untilNextBound();
  await untilAgentsReady(cluster.nodes.length);
  await load.end(t);
  t.deepEqual(await failedCalls(), failed);
  await checker.assertWhole(t);
  await restartDrivers();
});

/** The controller waits for a week between two steps, from the time in this annotation. */
async function letAWeekPass(): Promise<void> {
  const name = 'loopcsi.io/distributed-at';
  const annotations = { [name]: new Date(Date.now() - 8 * dayMs).toISOString() };
  await eventually(
    'the distribution of the bundle to be recorded',
    async () => {
      const secret = await api.find('Secret', systemNamespace, authoritySecret);
      const found = secret?.metadata['annotations'] as Readonly<Record<string, string>> | undefined;
      return found?.[name];
    },
    { timeoutMs: 180_000 },
  );
  await api.patch('Secret', systemNamespace, authoritySecret, { metadata: { annotations } });
}

async function untilBundle(authorities: number): Promise<void> {
  await eventually(
    `${authorities} trusted authorities`,
    async () => {
      for (const role of roles) {
        const texts = await secretTexts(ofOwnAuthority[role]);
        if (countCertificates(texts['ca.crt']) !== authorities) return undefined;
      }
      return true;
    },
    { timeoutMs: 180_000 },
  );
}

test.serial('Secrets with certificates of `loopcsi tls create`, renewed under load', async (t) => {
  t.timeout(15 * 60_000);
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-tls-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const made = join(directory, 'tls');
  const loopcsi = join(projectRoot, 'bin', 'loopcsi');
  await run(loopcsi, ['tls', 'create', made]);
  const own: Readonly<Record<Role, string>> = { controller: 'own-controller', agent: 'own-agent' };
  const filesOf = async (role: Role): Promise<Readonly<Record<string, string>>> => {
    const names = ['ca.crt', 'tls.crt', 'tls.key'];
    const entries = names.map(async (name) => [
      name,
      await readFile(join(made, role, name), 'utf8'),
    ]);
    return Object.fromEntries(await Promise.all(entries)) as Readonly<Record<string, string>>;
  };
  for (const role of roles) {
    const stringData = await filesOf(role);
    const secret = { metadata: { name: own[role] }, type: 'kubernetes.io/tls', stringData };
    await api.create('Secret', systemNamespace, secret);
    t.teardown(async () => api.delete('Secret', systemNamespace, own[role]));
  }
  await changeShape(true, { tls: { mode: 'secrets', secrets: own } });
  await untilAgentsReady(cluster.nodes.length);

  const scenario = await Scenario.begin(t, 'own-secrets');
  const load = new ClaimLoad(scenario, classes.immediate);
  await load.untilNextBound();
  const failed = await failedCalls();
  await run(loopcsi, ['tls', 'create', '--renew', made]);
  const before = await serialNumberIn(own.agent);
  for (const role of roles) await writeSecret(own[role], await filesOf(role));
  t.not(await serialNumberIn(own.agent), before);
  await untilMounted(own);
  await load.untilNextBound();
  await untilAgentsReady(cluster.nodes.length);
  await load.end(t);
  t.deepEqual(await failedCalls(), failed);
  await restartDrivers();
});
