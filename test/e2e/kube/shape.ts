/** The chart's two shapes: sidecars beside the driver of every node, or one controller with the only sidecars. */
import { scaledMs } from '../../helpers/slowness.ts';
import { eventually } from '../eventually.ts';
import { textAt } from './api.ts';
import { chartPath, chartValues, nodePods, release, systemNamespace } from './chart.ts';
import { nodeNameOf } from './driver-pods.ts';
import { api, cluster, firstNode, helm, isReady } from './scenario.ts';

const agentFlag = '--agent-address=';

/** Whether the drivers of the tests' release have a controller. */
export async function hasController(): Promise<boolean> {
  const sets = await api.list('DaemonSet', systemNamespace);
  return sets.some((set) =>
    (textAt(set, 'spec.template.spec.containers') ?? '').includes(agentFlag),
  );
}

/** Upgrades the tests' release to these values, in its present shape, and waits until every node is served. */
export async function upgrade(more: Readonly<Record<string, object>> = {}): Promise<void> {
  await upgradeTo(await hasController(), more);
}

/**
 * Upgrades the tests' release to the other shape or the same, and waits until the driver of every node has it. `controller` has more
 * values of the controller.
 */
export async function changeShape(enabled: boolean, controller: object = {}): Promise<void> {
  await upgradeTo(enabled, {}, controller);
}

/** Values of the tests' release in this shape. */
export function valuesOf(
  enabled: boolean,
  more: Readonly<Record<string, object>> = {},
  controller: object = {},
): string {
  // Scenarios let the other nodes fail, and a controller on a lost node is replaced only after five minutes.
  const nodeSelector = { 'kubernetes.io/hostname': firstNode.name };
  return JSON.stringify(
    chartValues({ controller: { enabled, nodeSelector, ...controller }, ...more }),
  );
}

async function upgradeTo(
  enabled: boolean,
  more: Readonly<Record<string, object>>,
  controller: object = {},
): Promise<void> {
  const args = ['upgrade', release, chartPath, '--namespace', systemNamespace, '--values', '-'];
  const flags = ['--wait', '--timeout', `${scaledMs(5)}m`];
  const { exitCode, stderr } = await helm([...args, ...flags], valuesOf(enabled, more, controller));
  if (exitCode !== 0) throw new Error(stderr);
  await eventually(
    'one ready driver of the new shape on every node',
    async () => {
      const pods = await api.list('Pod', systemNamespace, nodePods);
      const isOnEach = cluster.nodes.every(({ name }) =>
        pods.some((pod) => nodeNameOf(pod) === name),
      );
      if (!isOnEach || pods.length > cluster.nodes.length || !pods.every(isReady)) return undefined;
      const hasFlag = (pod: object): boolean =>
        (textAt(pod, 'spec.containers') ?? '').includes(agentFlag);
      return pods.every((pod) => hasFlag(pod) === enabled) ? true : undefined;
    },
    { timeoutMs: 180_000 },
  );
}
