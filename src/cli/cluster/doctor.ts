/** `kubectl loopcsi doctor`: checks the cluster, and asks the doctor of every node. */
import * as v from 'valibot';
import { type Finding, fail, ok, warn } from '../../volumes/admin/doctor.ts';
import { checkClasses } from './checks/classes.ts';
import { checkDriver } from './checks/driver.ts';
import { checkOrphans } from './checks/orphans.ts';
import { checkPendingClaims } from './checks/pending-claims.ts';
import { checkSidecars } from './checks/sidecars.ts';
import { checkSnapshots } from './checks/snapshots.ts';
import { askNodes, findDriver, isReady, loadCluster } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { listNodeVolumes } from './node-volumes.ts';
import type { Pod } from './objects.ts';

const findings = v.array(
  v.object({
    name: v.string(),
    state: v.picklist(['ok', 'warn', 'fail']),
    message: v.string(),
    remedy: v.string(),
  }),
);

/**
 * The API is read after the nodes have answered, so that a PersistentVolume that was created meanwhile is not missing.
 */
export async function diagnose(kubectl: Kubectl, driver: string): Promise<readonly Finding[]> {
  const found = await findDriver(kubectl, driver);
  const [volumes, nodes] = await Promise.all([
    listNodeVolumes(kubectl, found.driverPods),
    nodeFindings(kubectl, found.driverPods),
  ]);
  const cluster = await loadCluster(kubectl, found);
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
  driverPods: readonly Pod[],
): Promise<readonly Finding[]> {
  const answers = await askNodes(kubectl, driverPods.filter(isReady), findings, 'doctor');
  return answers.flatMap(({ node, pod, value, problem }) => {
    if (value === undefined) {
      const { namespace, name } = pod.metadata;
      return [
        fail(
          `node:${node}`,
          `the driver on node ${node} did not answer: ${problem}`,
          `look at its log: kubectl logs --namespace ${namespace} ${name} --container driver`,
        ),
      ];
    }
    const bad = value.filter(({ state }) => state !== 'ok');
    if (bad.length === 0)
      return [ok(`node:${node}`, `${value.length} checks on node ${node} found no problem`)];
    return bad.map(({ name, state, message, remedy }) =>
      (state === 'fail' ? fail : warn)(`node:${node}:${name}`, message, remedy),
    );
  });
}
