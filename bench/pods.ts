/** Pods of the measurements in a real cluster, each with its own claim or with an emptyDir. */
import { setTimeout as delay } from 'node:timers/promises';
import { textAt } from '../test/e2e/kube/api.ts';
import { claim, type PodOptions, pod } from '../test/e2e/kube/objects.ts';
import { api, isReady } from '../test/e2e/kube/scenario.ts';

export const namespace = 'bench';

/** Milliseconds since the pod and its claim were created. */
export interface PodTimes {
  readonly scheduledMs: number;
  readonly boundMs: number;
  readonly readyMs: number;
}

const emptyDirPod: PodOptions = { volumes: { '/data': { emptyDir: {} } } };

/** Creates a pod and polls every 10 ms until it is ready, because timestamps in the API have a resolution of one second. */
export async function startPod(name: string, withVolume: boolean): Promise<PodTimes> {
  const startedAt = performance.now();
  if (withVolume)
    await api.create('PersistentVolumeClaim', namespace, claim(name, { size: '64Mi' }));
  const options = withVolume ? { claims: { '/data': name } } : emptyDirPod;
  await api.create('Pod', namespace, pod(name, options));
  let scheduledMs = 0;
  let boundMs = 0;
  for (;;) {
    const found = await api.find('Pod', namespace, name);
    const elapsed = performance.now() - startedAt;
    if (scheduledMs === 0 && textAt(found, 'spec.nodeName') !== undefined) scheduledMs = elapsed;
    if (withVolume && boundMs === 0) {
      const bound = await api.find('PersistentVolumeClaim', namespace, name);
      if (textAt(bound, 'status.phase') === 'Bound') boundMs = performance.now() - startedAt;
    }
    if (found !== undefined && isReady(found)) return { scheduledMs, boundMs, readyMs: elapsed };
    if (elapsed > 300_000) throw new Error(`${name} is not ready after ${Math.round(elapsed)} ms`);
    await delay(10);
  }
}

export async function deletePod(name: string, withVolume: boolean): Promise<void> {
  const volume = textAt(
    await api.find('PersistentVolumeClaim', namespace, name),
    'spec.volumeName',
  );
  await api.delete('Pod', namespace, name, { gracePeriodSeconds: 0 });
  await api.untilGone('Pod', namespace, name);
  if (!withVolume) return;
  await api.delete('PersistentVolumeClaim', namespace, name);
  await api.untilGone('PersistentVolume', '', volume ?? '');
}
