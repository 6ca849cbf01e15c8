/** `controller.tls.mode: certManager` with cert-manager's controllers, which run beside the control plane. */
import { join } from 'node:path';
import test from 'ava';
import type { Role } from '../../../../src/tls/roles.ts';
import { startProcess, stopProcess } from '../../cluster/processes.ts';
import { certManagerPrograms } from '../../cluster/programs.ts';
import { eventually } from '../../eventually.ts';
import {
  failedCalls,
  serialNumberIn,
  untilAgentsReady,
  untilMounted,
} from '../../kube/certificates.ts';
import { classes, release, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { ClaimLoad } from '../../kube/claim-load.ts';
import { api, cluster, kubectl, layout, Scenario } from '../../kube/scenario.ts';
import { changeShape } from '../../kube/shape.ts';

const secrets: Readonly<Record<Role, string>> = {
  controller: `${release}-controller-cert`,
  agent: `${release}-agent-cert`,
};
const service = 'cert-manager';

test.before(async () => {
  const directory = await certManagerPrograms();
  await kubectl('apply', '--server-side', '--filename', join(directory, 'crds'));
  await kubectl('wait', '--for=condition=Established', '--all', 'crd', '--timeout=60s');
  const command = [join(directory, 'cert-manager'), `--kubeconfig=${layout.kubeconfig}`];
  await startProcess(layout.control, service, command);
});

test.after.always(async () => {
  await changeShape(false);
  await stopProcess(layout.control, service);
});

test.serial('Secrets are issued, and renewed under load without a failed call', async (t) => {
  t.timeout(15 * 60_000);
  await changeShape(true, { tls: { mode: 'certManager' } });
  await untilMounted(secrets);
  await untilAgentsReady(cluster.nodes.length);

  const scenario = await Scenario.begin(t, 'cert-manager');
  const checker = await Checker.start(scenario, 'writer', classes.reflink);
  const load = new ClaimLoad(scenario, classes.immediate);
  await load.untilNextBound();
  const failed = await failedCalls();
  for (const role of ['agent', 'controller'] as const) {
    const before = await serialNumberIn(secrets[role]);
    t.truthy(before);
    // As `cmctl renew` does.
    await issueAgain(`${release}-${role}`);
    await eventually(
      `a new certificate of the ${role}`,
      async () => ((await serialNumberIn(secrets[role])) === before ? undefined : true),
      { timeoutMs: 120_000 },
    );
  }
  await untilMounted(secrets);
  await load.untilNextBound();
  await untilAgentsReady(cluster.nodes.length);
  await load.end(t);
  t.deepEqual(await failedCalls(), failed);
  await checker.assertWhole(t);
});

/** Sets the condition that makes cert-manager issue a certificate again. */
async function issueAgain(certificate: string): Promise<void> {
  const path = `/apis/cert-manager.io/v1/namespaces/${systemNamespace}/certificates/${certificate}`;
  const condition = {
    type: 'Issuing',
    status: 'True',
    reason: 'ManuallyTriggered',
    message: 'renewed by a test',
    lastTransitionTime: new Date().toISOString(),
  };
  const body = [{ op: 'add', path: '/status/conditions/-', value: condition }];
  await api.call('PATCH', `${path}/status`, body, 'application/json-patch+json');
}
