/** `kubectl loopcsi doctor`: checks the cluster, and asks the doctor of every node. */
import * as v from 'valibot';
import { type Finding, fail, ok, warn } from '../../volumes/admin/doctor.ts';
import { checkClasses } from './checks/classes.ts';
import { checkDriver } from './checks/driver.ts';
import { checkOrphans } from './checks/orphans.ts';
import { checkPendingClaims } from './checks/pending-claims.ts';
import { checkSidecars } from './checks/sidecars.ts';
import { checkSnapshots } from './checks/snapshots.ts';
import { askNodes, type Cluster, isReady } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { listNodeVolumes } from './node-volumes.ts';

const findings = v.array(
  v.object({
    name: v.string(),
    state: v.picklist(['ok', 'warn', 'fail']),
    message: v.string(),
    remedy: v.string(),
  }),
);

export async function diagnose(kubectl: Kubectl, cluster: Cluster): Promise<readonly Finding[]> {
  const [volumes, nodes] = await Promise.all([
    listNodeVolumes(kubectl, cluster),
    nodeFindings(kubectl, cluster),
  ]);
  return [
    ...checkDriver(cluster),
    ...checkSidecars(cluster),
    ...checkClasses(cluster),
    ...checkSnapshots(cluster),
    ...checkPendingClaims(cluster),
    ...checkOrphans(cluster, volumes.answers),
    ...nodes,
  ];
}

/** What the doctor of each node found wrong, under the node's name. */
async function nodeFindings(
  kubectl: Kubectl,
  { driverPods }: Cluster,
): Promise<readonly Finding[]> {
  const answers = await askNodes(kubectl, driverPods.filter(isReady), 'doctor', '--json');
  return answers.flatMap(({ node, output, problem }) => {
    if (output === undefined) {
      return [
        fail(
          `node:${node}`,
          `the driver on node ${node} did not answer: ${problem}`,
          'look at its log: kubectl logs --container driver',
        ),
      ];
    }
    const all = v.parse(findings, JSON.parse(output));
    const bad = all.filter(({ state }) => state !== 'ok');
    if (bad.length === 0)
      return [ok(`node:${node}`, `${all.length} checks on node ${node} found no problem`)];
    return bad.map(({ name, state, message, remedy }) =>
      (state === 'fail' ? fail : warn)(`node:${node}:${name}`, message, remedy),
    );
  });
}
