/** Whether the driver runs on every node and is registered with its kubelet. */
import { type Finding, fail, ok, warn } from '../../../volumes/admin/doctor.ts';
import { type Cluster, isReady } from '../cluster.ts';
import type { Pod } from '../objects.ts';

export function checkDriver(cluster: Cluster): readonly Finding[] {
  if (cluster.driverPods.length === 0) return [driverMissing(cluster)];
  return [
    ...cluster.daemonSets.flatMap((one) => checkPodCount(cluster, one)),
    ...cluster.driverPods.flatMap(checkPod),
    ...cluster.driverPods.flatMap((pod) => checkRegistration(cluster, pod)),
    ...nodesWithoutDriver(cluster),
    ok(
      'driver',
      `${cluster.driver} has ${cluster.driverPods.length} pods on ${cluster.nodes.length} nodes`,
    ),
  ];
}

function driverMissing(cluster: Cluster): Finding {
  const refused = podSecurityEvent(cluster);
  if (refused !== undefined) return refused;
  return fail(
    'driver',
    `no pod of driver ${cluster.driver} exists`,
    'install the chart with helm, or name another driver with --driver-name',
  );
}

/** A DaemonSet whose pods are not admitted has fewer pods than it wants, and only an event says why. */
function checkPodCount(
  cluster: Cluster,
  { metadata, status }: Cluster['daemonSets'][number],
): readonly Finding[] {
  const { desiredNumberScheduled, currentNumberScheduled } = status;
  if (currentNumberScheduled >= desiredNumberScheduled) return [];
  const refused = podSecurityEvent(cluster);
  return [
    refused ??
      fail(
        'driver',
        `DaemonSet ${metadata.namespace}/${metadata.name} has ${currentNumberScheduled} of ${desiredNumberScheduled} pods`,
        `kubectl describe daemonset --namespace ${metadata.namespace} ${metadata.name} shows why`,
      ),
  ];
}

/** Only events of the driver's own DaemonSets count: others may be of other users. */
function podSecurityEvent({ events, daemonSets }: Cluster): Finding | undefined {
  const event = events.find(
    ({ message, involvedObject }) =>
      involvedObject.kind === 'DaemonSet' &&
      message.includes('violates PodSecurity') &&
      daemonSets.some(
        ({ metadata }) =>
          metadata.namespace === involvedObject.namespace && metadata.name === involvedObject.name,
      ),
  );
  if (event === undefined) return undefined;
  const { namespace } = event.involvedObject;
  return fail(
    'pod-security',
    `namespace ${namespace} does not admit privileged pods, so the driver's pods are refused`,
    `kubectl label namespace ${namespace} pod-security.kubernetes.io/enforce=privileged --overwrite`,
  );
}

function checkPod(pod: Pod): readonly Finding[] {
  if (isReady(pod)) return [];
  const { name, namespace } = pod.metadata;
  const waiting = pod.status.containerStatuses?.flatMap(({ name: container, state }) => {
    const { reason = '', message = '' } = state?.waiting ?? state?.terminated ?? {};
    return reason === '' ? [] : [`${container}: ${[reason, message].filter(Boolean).join(': ')}`];
  });
  const why =
    waiting?.[0] ?? (pod.spec.nodeName === '' ? 'it is not scheduled' : 'it is not ready');
  const isImage = /ImagePull|ErrImage/.test(why);
  return [
    fail(
      `driver:${pod.spec.nodeName || name}`,
      `the driver's pod ${namespace}/${name} does not run: ${why}`,
      isImage
        ? 'the node cannot get the image: load or push it, and set image.registry, image.repository and image.tag'
        : `kubectl describe pod --namespace ${namespace} ${name}; kubectl logs --namespace ${namespace} ${name} --container driver`,
    ),
  ];
}

function checkRegistration({ csiNodes, driver }: Cluster, pod: Pod): readonly Finding[] {
  const node = pod.spec.nodeName;
  const registered = csiNodes.find(({ metadata }) => metadata.name === node)?.spec.drivers ?? [];
  if (!isReady(pod) || registered.some(({ name }) => name === driver)) return [];
  return [
    fail(
      `registration:${node}`,
      `the kubelet of node ${node} has not registered driver ${driver}, although its pod is ready`,
      "kubeletDir of the chart is probably not this node's kubelet directory (microk8s and k0s have their own)",
    ),
  ];
}

/** Nodes that take pods and have no driver: a claim whose pod is scheduled there stays pending. */
function nodesWithoutDriver({ nodes, driverPods }: Cluster): readonly Finding[] {
  const served = new Set(driverPods.map(({ spec }) => spec.nodeName));
  const missing = nodes.filter(
    ({ metadata, spec }) => spec.unschedulable !== true && !served.has(metadata.name),
  );
  if (missing.length === 0) return [];
  const names = missing.map(({ metadata }) => metadata.name).join(', ');
  return [
    warn(
      'nodes-without-driver',
      `these nodes have no driver, so volumes cannot be created there: ${names}`,
      'if they should have it, look at nodeSelector, tolerations and nodeGroups of the chart',
    ),
  ];
}
