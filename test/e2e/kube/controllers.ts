/** The pods of the Deployment with the controller and the sidecars. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterNode } from '../cluster/node.ts';
import { eventually } from '../eventually.ts';
import { type KubeObject, textAt } from './api.ts';
import { release, systemNamespace } from './chart.ts';
import { api, cluster, isReady } from './scenario.ts';

export const controllerPods =
  'app.kubernetes.io/instance=loopcsi,app.kubernetes.io/component=controller';
export const controllerDeployment = `${release}-controller`;

/** Waits until that number of controllers is ready, and no other is there. Returns their pods. */
export async function untilControllersReady(replicas: number): Promise<readonly KubeObject[]> {
  return eventually(
    `${replicas} controllers to be ready`,
    async () => {
      const pods = await api.list('Pod', systemNamespace, controllerPods);
      return pods.length === replicas && pods.every(isReady) ? pods : undefined;
    },
    { timeoutMs: 240_000 },
  );
}

/** The pod of the controller whose sidecar leads, by the name of the Lease. */
export async function leader(lease: string): Promise<KubeObject> {
  return eventually(`the holder of ${lease}`, async () => {
    const found = await api.find('Lease', systemNamespace, lease);
    const holder = textAt(found, 'spec.holderIdentity') ?? '';
    const pods = await api.list('Pod', systemNamespace, controllerPods);
    return pods.find(({ metadata }) => holder.startsWith(metadata.name));
  });
}

export const nodeOf = (pod: KubeObject): ClusterNode =>
  cluster.node(textAt(pod, 'spec.nodeName') ?? '');

/** The smallest number of ready controllers while `work` runs. */
export async function fewestReadyDuring(work: Promise<unknown>): Promise<number> {
  let isOver = false;
  let fewest = Number.POSITIVE_INFINITY;
  const watching = (async () => {
    while (!isOver) {
      const pods = await api.list('Pod', systemNamespace, controllerPods);
      fewest = Math.min(fewest, pods.filter(isReady).length);
      await delay(100);
    }
  })();
  try {
    await work;
  } finally {
    isOver = true;
    await watching;
  }
  return fewest;
}
