// Tests whether a volume works and, by taking a snapshot, whether the cluster's snapshot-controller does distributed snapshotting.
import { readFile, statfs, writeFile } from 'node:fs/promises';
import { api, until } from './api.mjs';

const { CLAIM: claim, NAMESPACE: namespace, NODE_NAME: ownNode, SNAPSHOT_CLASS: snapshotClass, CONTROLLER: controller } = process.env;
const managedBy = 'snapshot.storage.kubernetes.io/managed-by';
const snapshots = `/apis/snapshot.storage.k8s.io/v1/namespaces/${namespace}/volumesnapshots`;

await writeFile('/data/written', 'by helm test');
const { blocks, bsize } = await statfs('/data');
const text = await readFile('/data/written', 'utf8');
console.log(`volume: ok, wrote and read ${text.length} bytes on ${Math.round((blocks * bsize) / 2 ** 20)} MiB`);

const problem = snapshotClass === '' ? skipSnapshot() : await trySnapshot();
if (problem !== undefined) {
  console.log(problem);
  process.exitCode = 1;
}

function skipSnapshot() {
  console.log('snapshots: disabled (no snapshot CRDs when the chart was installed, or snapshotter.enabled is false)');
  return undefined;
}

async function trySnapshot() {
  const metadata = { name: claim };
  const source = { persistentVolumeClaimName: claim };
  const spec = { volumeSnapshotClassName: snapshotClass, source };
  await api('POST', snapshots, { apiVersion: 'snapshot.storage.k8s.io/v1', kind: 'VolumeSnapshot', metadata, spec });
  try {
    return await watchSnapshot();
  } finally {
    await api('DELETE', `${snapshots}/${claim}`);
    const gone = await until(60, async () => ((await api('GET', `${snapshots}/${claim}`)) ? undefined : true));
    if (gone === undefined) console.log(`VolumeSnapshot ${namespace}/${claim} was not deleted within 60 s: see kubectl describe`);
  }
}

async function watchSnapshot() {
  const bound = await until(90, async () => {
    const { status } = await api('GET', `${snapshots}/${claim}`);
    return status?.boundVolumeSnapshotContentName ?? (status?.error ? '' : undefined);
  });
  if (!bound) {
    return `snapshots: FAILED. No snapshot-controller handled VolumeSnapshot ${namespace}/${claim} within 90 s.
If the cluster has no snapshot-controller, install it (snapshot-controller.enabled=true in this chart's values). If it has one,
see its log.`;
  }
  const contentPath = `/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/${bound}`;
  const content = () => api('GET', contentPath);
  // The controller's snapshotter takes snapshots of all nodes, whatever their label.
  const isCentral = controller === 'true';
  const node = isCentral ? undefined : await until(10, async () => (await content())?.metadata.labels?.[managedBy]);
  if (!isCentral && node === undefined) {
    // Without the label, no sidecar would delete the snapshot either.
    await api('PATCH', contentPath, { metadata: { labels: { [managedBy]: ownNode } } });
    return `snapshots: FAILED. The cluster's snapshot-controller does not do distributed snapshotting: it created ${bound}
without the label ${managedBy}, so no node handles it and snapshots never become ready.
Start the controller with --enable-distributed-snapshotting=true, and allow it to get, list and watch nodes. If you cannot change
it, disable snapshots in this chart's values: snapshotter.enabled=false.`;
  }
  const outcome = await until(60, async () => {
    const { status } = (await content()) ?? {};
    return status?.error?.message ?? (status?.readyToUse ? 'ready' : undefined);
  });
  if (outcome === 'ready') {
    console.log(
      isCentral ? 'snapshots: ok, the snapshotter of the controller took one' : `snapshots: ok, distributed: the snapshotter on node ${node} took one`,
    );
    return undefined;
  }
  const where = isCentral ? 'of the controller' : `on node ${node}`;
  console.log(`snapshots: ${isCentral ? '' : 'distributed, '}the snapshotter ${where} tried, but the snapshot failed: ${outcome ?? 'it was not ready within 60 s'}`);
  // Not a failure of the test: the driver refuses, for example, to copy a volume that is in use if its pool cannot share blocks.
  return outcome === undefined ? `See the logs of the driver and of the snapshotter ${where}.` : undefined;
}
