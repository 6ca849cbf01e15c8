/** What the cluster commands know: the API's objects around one driver, and what the driver answers on each node. */
import * as v from 'valibot';
import { mapConcurrently } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { FailedError } from '../errors.ts';
import type { Kubectl } from './kubectl.ts';
import {
  type Capacity,
  type Claim,
  type CsiNode,
  capacityObject,
  claimObject,
  csiDriverObject,
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
  releaseNamespace,
  type SnapshotContent,
  type StorageClass,
  snapshotContentObject,
  storageClassObject,
} from './objects.ts';

/** The driver's own workload. */
export interface DriverPods {
  /** Name of the CSI driver. */
  readonly driver: string;
  readonly daemonSets: readonly DaemonSet[];
  /** One for each node. */
  readonly driverPods: readonly Pod[];
}

export interface Cluster extends DriverPods {
  readonly nodes: readonly KubeNode[];
  readonly pods: readonly Pod[];
  readonly deployments: readonly Deployment[];
  readonly csiNodes: readonly CsiNode[];
  readonly classes: readonly StorageClass[];
  readonly capacities: readonly Capacity[];
  /** Those of the driver. */
  readonly volumes: readonly PersistentVolume[];
  readonly claims: readonly Claim[];
  /** Those of the driver; undefined if the cluster has no snapshot CRDs, or they cannot be read. */
  readonly snapshotContents: readonly SnapshotContent[] | undefined;
  /** Why they cannot be read. */
  readonly snapshotsProblem: string;
  readonly events: readonly KubeEvent[];
}

/** The chart's labels of the driver's pods. */
const driverSelector = 'app.kubernetes.io/part-of=loopcsi,app.kubernetes.io/component=node';
const controllerSelector = 'app.kubernetes.io/component=controller';
export const driverContainer = 'driver';
const controllerContainer = 'controller';

type List = <T>(
  kind: string,
  schema: v.GenericSchema<unknown, T>,
  ...flags: readonly string[]
) => Promise<readonly T[]>;

/** Lists the objects of a kind in all namespaces. Throws `FailedError` with kubectl's message if that is not allowed. */
export function makeList(kubectl: Kubectl): List {
  return async (kind, schema, ...flags) => {
    const args = ['get', kind, '--all-namespaces', '--output=json', ...flags];
    return parseItems(schema, await kubectl.run(...args));
  };
}

/**
 * Finds the driver's pods. In a cluster where other users may create pods, the labels alone prove nothing: if Helm installed
 * the CSIDriver object, only its namespace counts.
 */
export async function findDriver(kubectl: Kubectl, driver: string): Promise<DriverPods> {
  const list = makeList(kubectl);
  const selector = `--selector=${driverSelector}`;
  const [drivers, daemonSets, pods] = await Promise.all([
    list('csidrivers', csiDriverObject),
    list('daemonsets.apps', daemonSetObject, selector),
    list('pods', podObject, selector),
  ]);
  const installed = drivers.find(({ metadata }) => metadata.name === driver);
  const namespace = installed?.metadata.annotations[releaseNamespace];
  const isTrusted = ({ metadata }: Pod | DaemonSet): boolean =>
    namespace === undefined || metadata.namespace === namespace;
  const isOfDriver = ({ spec }: Pod): boolean =>
    spec.containers.some(({ args }) => args.includes(`--driver-name=${driver}`));
  return {
    driver,
    daemonSets: daemonSets.filter(isTrusted),
    driverPods: pods.filter((pod) => isTrusted(pod) && isOfDriver(pod)),
  };
}

/** The driver's own PersistentVolumes. */
export async function listOwnVolumes(
  kubectl: Kubectl,
  driver: string,
): Promise<readonly PersistentVolume[]> {
  const all = await makeList(kubectl)('persistentvolumes', persistentVolumeObject);
  return all.filter(({ spec }) => spec.csi?.driver === driver);
}

/** Reads everything. Throws `FailedError` with kubectl's message if a kind cannot be read, other than snapshots. */
export async function loadCluster(kubectl: Kubectl, found: DriverPods): Promise<Cluster> {
  const list = makeList(kubectl);
  const [storage, workloads, snapshots] = await Promise.all([
    loadStorage(kubectl, list, found.driver),
    loadWorkloads(list),
    loadSnapshotContents(kubectl, found.driver),
  ]);
  return { ...found, ...storage, ...workloads, ...snapshots };
}

async function loadStorage(kubectl: Kubectl, list: List, driver: string) {
  const [csiNodes, classes, capacities, volumes, claims] = await Promise.all([
    list('csinodes', csiNodeObject),
    list('storageclasses', storageClassObject),
    list('csistoragecapacities', capacityObject),
    listOwnVolumes(kubectl, driver),
    list('persistentvolumeclaims', claimObject),
  ]);
  return { csiNodes, classes, capacities, volumes, claims };
}

async function loadWorkloads(list: List) {
  const [nodes, pods, deployments, events] = await Promise.all([
    list('nodes', nodeObject),
    list('pods', podObject),
    list('deployments.apps', deploymentObject),
    list('events', eventObject),
  ]);
  return { nodes, pods, deployments, events };
}

async function loadSnapshotContents(
  kubectl: Kubectl,
  driver: string,
): Promise<Pick<Cluster, 'snapshotContents' | 'snapshotsProblem'>> {
  const kind = 'volumesnapshotcontents.snapshot.storage.k8s.io';
  const { exitCode, stdout, stderr } = await kubectl.attempt('get', kind, '--output=json');
  if (exitCode === 0) {
    const contents = parseItems(snapshotContentObject, stdout);
    const own = contents.filter(({ spec }) => spec.driver === driver);
    return { snapshotContents: own, snapshotsProblem: '' };
  }
  const isUnknownKind = /doesn't have a resource type|could not find the requested/.test(stderr);
  return { snapshotContents: undefined, snapshotsProblem: isUnknownKind ? '' : stderr.trim() };
}

/** The classes of the driver. */
export function ownClasses({ classes, driver }: Cluster): readonly StorageClass[] {
  return classes.filter(({ provisioner }) => provisioner === driver);
}

/** The Deployment with `loopcsi controller` of this driver; undefined if the sidecars run on every node. */
export function findController({ deployments, driver }: Cluster): Deployment | undefined {
  return deployments.find(({ spec }) => spec.template.spec.containers.some(isControllerOf(driver)));
}

/** The pods of that Deployment. */
export function controllerPods({ pods, driver }: Pick<Cluster, 'pods' | 'driver'>): readonly Pod[] {
  return pods.filter(({ spec }) => spec.containers.some(isControllerOf(driver)));
}

/**
 * A pod of the controller that is ready. As for the driver's pods, only the namespace of the release counts if Helm installed the
 * CSIDriver object. Throws `FailedError` if there is none.
 */
export async function findControllerPod(kubectl: Kubectl, driver: string): Promise<Pod> {
  const list = makeList(kubectl);
  const [drivers, pods] = await Promise.all([
    list('csidrivers', csiDriverObject),
    list('pods', podObject, `--selector=${controllerSelector}`),
  ]);
  const installed = drivers.find(({ metadata }) => metadata.name === driver);
  const namespace = installed?.metadata.annotations[releaseNamespace];
  const own = controllerPods({ pods, driver }).filter(
    ({ metadata }) => namespace === undefined || metadata.namespace === namespace,
  );
  const ready = own.find(isReady);
  if (ready !== undefined) return ready;
  throw new FailedError(
    own.length === 0
      ? `no controller of driver ${driver} runs in this cluster: the chart value controller.enabled starts one`
      : `no pod of the controller is ready: kubectl describe pod --namespace ${own[0]?.metadata.namespace ?? ''} ${own[0]?.metadata.name ?? ''}`,
  );
}

const isControllerOf =
  (driver: string) =>
  ({ args }: { readonly args: readonly string[] }): boolean =>
    args[0] === 'controller' && args.includes(`--driver-name=${driver}`);

export function isReady(pod: Pod): boolean {
  return (
    pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
    false
  );
}

/** What a driver answered on its node, or why it did not. */
export interface NodeAnswer<T> {
  readonly pod: Pod;
  readonly node: string;
  readonly value: T | undefined;
  readonly problem: string;
  /** What it wrote to standard error beside a value. */
  readonly warnings: string;
}

export const concurrentNodes = 8;

/** Runs `loopcsi ARGS --json` in the driver's container of each pod. */
export async function askNodes<T>(
  kubectl: Kubectl,
  pods: readonly Pod[],
  schema: v.GenericSchema<unknown, T>,
  ...args: readonly string[]
): Promise<readonly NodeAnswer<T>[]> {
  return mapConcurrently(pods, concurrentNodes, async (pod) => {
    const asked = { pod, node: pod.spec.nodeName, problem: '', warnings: '' };
    try {
      const { stdout, stderr } = await kubectl.attempt(...execInto(pod, ...args, '--json'));
      // doctor prints its findings and exits with 1 if one of them is a failure.
      if (stdout.trim() === '')
        return { ...asked, value: undefined, problem: stderr.trim() || 'no answer' };
      return { ...asked, value: v.parse(schema, JSON.parse(stdout)), warnings: stderr };
    } catch (error) {
      const problem = `its answer is not complete: ${messageOf(error)}`;
      return { ...asked, value: undefined, problem };
    }
  });
}

/** The arguments of kubectl that run `loopcsi ARGS` in the pod of a driver. */
export function execInto(pod: Pod, ...args: readonly string[]): readonly string[] {
  return execIntoContainer(pod, driverContainer, args);
}

/** The same in the pod of a controller. */
export function execIntoController(pod: Pod, ...args: readonly string[]): readonly string[] {
  return execIntoContainer(pod, controllerContainer, args);
}

function execIntoContainer(
  { metadata: { namespace, name } }: Pod,
  container: string,
  args: readonly string[],
): readonly string[] {
  return [
    'exec',
    `--namespace=${namespace}`,
    `--container=${container}`,
    name,
    '--',
    'loopcsi',
    ...args,
  ];
}
