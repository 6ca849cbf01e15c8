/** What the cluster commands know: the API's objects around one driver, and what the driver answers on each node. */
import type * as v from 'valibot';
import { mapConcurrently } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { Kubectl } from './kubectl.ts';
import {
  type Capacity,
  type Claim,
  type CsiNode,
  capacityObject,
  claimObject,
  csiNodeObject,
  type DaemonSet,
  type Deployment,
  daemonSetObject,
  deploymentObject,
  eventObject,
  type KubeEvent,
  type KubeNode,
  nodeObject,
  type PersistentVolume,
  type Pod,
  parseItems,
  persistentVolumeObject,
  podObject,
  type SnapshotContent,
  type StorageClass,
  snapshotContentObject,
  storageClassObject,
} from './objects.ts';

export interface Cluster {
  /** Name of the CSI driver. */
  readonly driver: string;
  readonly nodes: readonly KubeNode[];
  readonly pods: readonly Pod[];
  /** The driver's own pods, one for each node. */
  readonly driverPods: readonly Pod[];
  readonly daemonSets: readonly DaemonSet[];
  readonly deployments: readonly Deployment[];
  readonly csiNodes: readonly CsiNode[];
  readonly classes: readonly StorageClass[];
  readonly capacities: readonly Capacity[];
  /** Those of the driver. */
  readonly volumes: readonly PersistentVolume[];
  readonly claims: readonly Claim[];
  /** Those of the driver; undefined if the cluster has no snapshot CRDs. */
  readonly snapshotContents: readonly SnapshotContent[] | undefined;
  readonly events: readonly KubeEvent[];
}

/** The chart's labels of the driver's pods. */
const driverSelector = 'app.kubernetes.io/part-of=loopcsi,app.kubernetes.io/component=node';
export const driverContainer = 'driver';

type List = <T>(
  kind: string,
  schema: v.GenericSchema<unknown, T>,
  ...flags: readonly string[]
) => Promise<readonly T[]>;

/** Reads everything at once. Throws `FailedError` with kubectl's message if a kind cannot be read, other than snapshots. */
export async function loadCluster(kubectl: Kubectl, driver: string): Promise<Cluster> {
  const get = ['get', '--all-namespaces', '--output=json'] as const;
  const list: List = async (kind, schema, ...flags) =>
    parseItems(schema, await kubectl.run(get[0], kind, ...get.slice(1), ...flags));
  const [storage, workloads, snapshotContents] = await Promise.all([
    loadStorage(list, driver),
    loadWorkloads(list),
    loadSnapshotContents(kubectl, driver),
  ]);
  const driverPods = workloads.pods.filter((pod) => isDriverPod(pod, driver));
  return { driver, ...storage, ...workloads, driverPods, snapshotContents };
}

async function loadStorage(list: List, driver: string) {
  const [csiNodes, classes, capacities, volumes, claims] = await Promise.all([
    list('csinodes', csiNodeObject),
    list('storageclasses', storageClassObject),
    list('csistoragecapacities', capacityObject),
    list('persistentvolumes', persistentVolumeObject),
    list('persistentvolumeclaims', claimObject),
  ]);
  const own = volumes.filter(({ spec }) => spec.csi?.driver === driver);
  return { csiNodes, classes, capacities, volumes: own, claims };
}

async function loadWorkloads(list: List) {
  const [nodes, pods, daemonSets, deployments, events] = await Promise.all([
    list('nodes', nodeObject),
    list('pods', podObject),
    list('daemonsets.apps', daemonSetObject, `--selector=${driverSelector}`),
    list('deployments.apps', deploymentObject),
    list('events', eventObject),
  ]);
  return { nodes, pods, daemonSets, deployments, events };
}

async function loadSnapshotContents(
  kubectl: Kubectl,
  driver: string,
): Promise<readonly SnapshotContent[] | undefined> {
  const kind = 'volumesnapshotcontents.snapshot.storage.k8s.io';
  const { exitCode, stdout } = await kubectl.attempt('get', kind, '--output=json');
  if (exitCode !== 0) return undefined;
  return parseItems(snapshotContentObject, stdout).filter(({ spec }) => spec.driver === driver);
}

function isDriverPod({ metadata, spec }: Pod, driver: string): boolean {
  return (
    metadata.labels['app.kubernetes.io/part-of'] === 'loopcsi' &&
    metadata.labels['app.kubernetes.io/component'] === 'node' &&
    spec.containers.some(({ args }) => args.includes(`--driver-name=${driver}`))
  );
}

/** The classes of the driver. */
export function ownClasses({ classes, driver }: Cluster): readonly StorageClass[] {
  return classes.filter(({ provisioner }) => provisioner === driver);
}

export function isReady(pod: Pod): boolean {
  return (
    pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
    false
  );
}

/** What a driver answered on its node, or why it did not. */
export interface NodeAnswer {
  readonly node: string;
  /** Standard output, for exit codes 0 and 1: `doctor` exits with 1 if it found a failure. */
  readonly output: string | undefined;
  readonly problem: string;
}

const concurrentNodes = 8;

/** Runs `loopcsi ARGS` in the driver's container on every node that has a running one. */
export async function askNodes(
  kubectl: Kubectl,
  pods: readonly Pod[],
  ...args: readonly string[]
): Promise<readonly NodeAnswer[]> {
  return mapConcurrently(pods, concurrentNodes, async (pod) => {
    const node = pod.spec.nodeName;
    try {
      const { stdout, stderr } = await kubectl.attempt(...execInto(pod, ...args));
      if (stdout.trim() !== '') return { node, output: stdout, problem: '' };
      return { node, output: undefined, problem: stderr.trim() || 'no answer' };
    } catch (error) {
      return { node, output: undefined, problem: messageOf(error) };
    }
  });
}

/** The arguments of kubectl that run `loopcsi ARGS` in the pod. */
export function execInto(pod: Pod, ...args: readonly string[]): readonly string[] {
  const { namespace, name } = pod.metadata;
  return [
    'exec',
    `--namespace=${namespace}`,
    `--container=${driverContainer}`,
    name,
    '--',
    'loopcsi',
    ...args,
  ];
}
