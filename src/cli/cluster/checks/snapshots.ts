/** Whether snapshots can work: CRDs, a snapshot-controller that distributes, and contents that some node handles. */
import { type Finding, fail, ok, warn } from '../../../volumes/admin/doctor.ts';
import { type Cluster, findController } from '../cluster.ts';
import type { SnapshotContent } from '../objects.ts';

const managedBy = 'snapshot.storage.kubernetes.io/managed-by';
const distributed = '--enable-distributed-snapshotting';

export function checkSnapshots(cluster: Cluster): readonly Finding[] {
  const { snapshotContents, snapshotsProblem } = cluster;
  if (snapshotsProblem !== '') {
    const message = `the contents of snapshots cannot be read: ${snapshotsProblem}`;
    return [warn('snapshots', message, 'use a kubeconfig that may list volumesnapshotcontents')];
  }
  if (snapshotContents === undefined) {
    return [ok('snapshots', 'the cluster has no snapshot CRDs, so it has no snapshots')];
  }
  return [
    checkController(cluster),
    ...snapshotContents.flatMap((one) => checkContent(cluster, one)),
  ];
}

function checkController(cluster: Cluster): Finding {
  const { deployments } = cluster;
  const controllers = deployments.flatMap(({ metadata, spec }) =>
    spec.template.spec.containers
      .filter(
        ({ name, image }) =>
          name === 'snapshot-controller' || /(?:^|\/)snapshot-controller[:@]/.test(image),
      )
      .map(({ args, command }) => ({
        name: `${metadata.namespace}/${metadata.name}`,
        words: [...command, ...args],
      })),
  );
  const [first] = controllers;
  if (first === undefined) {
    return warn(
      'snapshot-controller',
      'no Deployment of a snapshot-controller was found, so nothing takes snapshots',
      "install one, for example with snapshot-controller.enabled=true in the chart's values",
    );
  }
  if (findController(cluster) !== undefined) {
    const message = `snapshot-controller ${first.name} runs, and the controller's snapshotter takes the snapshots of all nodes`;
    return ok('snapshot-controller', message);
  }
  const flag = first.words.findLast(
    (word) => word === distributed || word.startsWith(`${distributed}=`),
  );
  if (flag === distributed || flag === `${distributed}=true`) {
    return ok(
      'snapshot-controller',
      `snapshot-controller ${first.name} distributes snapshots to nodes`,
    );
  }
  return fail(
    'snapshot-controller',
    `snapshot-controller ${first.name} runs without ${distributed}, so no node takes its snapshots and they are never ready`,
    `start it with ${distributed}=true, and allow it to get, list and watch nodes`,
  );
}

function checkContent(
  cluster: Cluster,
  { metadata, spec, status }: SnapshotContent,
): readonly Finding[] {
  // The controller's snapshotter handles contents whatever their label.
  const isCentral = findController(cluster) !== undefined;
  const node = metadata.labels[managedBy];
  const { namespace, name } = spec.volumeSnapshotRef;
  const subject = `snapshot ${namespace}/${name} (content ${metadata.name})`;
  if (!isCentral && node === undefined) {
    return [
      fail(
        `snapshot:${namespace}/${name}`,
        `${subject} has no label ${managedBy}, so no node handles it`,
        `kubectl label volumesnapshotcontent ${metadata.name} ${managedBy}=NODE, with the node of its volume`,
      ),
    ];
  }
  if (node !== undefined && !cluster.nodes.some((one) => one.metadata.name === node)) {
    return [
      fail(
        `snapshot:${namespace}/${name}`,
        `${subject} is on node ${node}, which the cluster does not have`,
        'if the node is lost for good, delete the snapshot and remove the finalizers of its content',
      ),
    ];
  }
  const message = status.error?.message ?? '';
  if (message === '' || status.readyToUse === true) return [];
  return [
    warn(
      `snapshot:${namespace}/${name}`,
      `${subject} is not ready: ${message}`,
      'follow the message; the call is repeated',
    ),
  ];
}
