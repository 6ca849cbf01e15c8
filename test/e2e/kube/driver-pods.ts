/** The pods of the driver, one on each node. */
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import type { ClusterNode } from '../cluster/node.ts';
import { eventually } from '../eventually.ts';
import { type KubeObject, textAt } from './api.ts';
import { nodePods, systemNamespace } from './chart.ts';
import { api, cluster, environment, firstNode, isReady, kubectl, programs } from './scenario.ts';

export interface DriverPod {
  readonly name: string;
  /** Restarts of the driver's container. */
  readonly restarts: number;
  readonly isReady: boolean;
}

/** The pod on that node that is not being deleted. */
export async function driverPod(node: ClusterNode = firstNode): Promise<DriverPod> {
  const pods = await api.list('Pod', systemNamespace, nodePods);
  const pod = pods.find(
    (one) => one.metadata['deletionTimestamp'] === undefined && nodeNameOf(one) === node.name,
  );
  if (pod === undefined) throw new Error(`no driver pod on ${node.name}`);
  const statuses = textAt(pod, 'status.containerStatuses') ?? '[]';
  const restarts = /"restartCount":(\d+)[^{}]*/.exec(
    statuses.slice(statuses.indexOf('"name":"driver"')),
  );
  return { name: pod.metadata.name, restarts: Number(restarts?.[1] ?? 0), isReady: isReady(pod) };
}

/** Waits for a ready driver on that node, other than the pod `but`, and returns the name of its pod. */
export async function untilDriverServes(but = '', node: ClusterNode = firstNode): Promise<string> {
  return eventually(
    `the driver on ${node.name} to serve`,
    async () => {
      const pod = await driverPod(node);
      return pod.isReady && pod.name !== but ? pod.name : undefined;
    },
    { timeoutMs: 180_000 },
  );
}

/** Waits until every node has a ready driver. */
export async function untilAllDriversServe(): Promise<void> {
  for (const node of cluster.nodes) await untilDriverServes('', node);
}

/** Runs a command in the driver's pod of the first node, as an operator runs it, and returns its trimmed output. */
export async function loopcsi(...args: readonly string[]): Promise<string> {
  return loopcsiOn(firstNode, ...args);
}

/** The same in the driver's pod of that node. */
export async function loopcsiOn(node: ClusterNode, ...args: readonly string[]): Promise<string> {
  return (await kubectl('exec', ...(await driverContainer(node)), '--', 'loopcsi', ...args)).trim();
}

/** As `loopcsi`, for a command whose standard input is a file of this machine. */
export async function loopcsiFrom(file: string, ...args: readonly string[]): Promise<string> {
  const target = ['exec', '--stdin', ...(await driverContainer()), '--', 'loopcsi', ...args];
  const script = 'input=$1; shift; exec "$@" <"$input"';
  const command = ['-c', script, 'sh', file, join(programs, 'kubectl'), ...target];
  return (await run('sh', command, { env: environment })).trim();
}

async function driverContainer(node: ClusterNode = firstNode): Promise<readonly string[]> {
  const { name } = await driverPod(node);
  return ['--namespace', systemNamespace, name, '--container', 'driver'];
}

/** The name of the node to which a pod is assigned. */
export function nodeNameOf(pod: KubeObject): string | undefined {
  return textAt(pod, 'spec.nodeName');
}
