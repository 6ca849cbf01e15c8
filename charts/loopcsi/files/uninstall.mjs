// Refuses to uninstall while volumes or snapshots of the driver exist, since without the driver they cannot be mounted, expanded or deleted.
import { api } from './api.mjs';

const { DRIVER_NAME: driver, RELEASE_NAME: release, RELEASE_NAMESPACE: namespace } = process.env;

const volumes = (await listAll('/api/v1/persistentvolumes')).filter(({ spec }) => spec.csi?.driver === driver);
const contents =
  process.env.SNAPSHOTS === 'true' ? await listAll('/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents') : [];
const snapshots = contents.filter(({ spec }) => spec.driver === driver);

if (volumes.length + snapshots.length === 0) {
  console.log(`no persistent volume or snapshot of ${driver} exists: it can be uninstalled`);
} else {
  console.log(`${release} is not uninstalled: ${volumes.length} persistent volume(s) and ${snapshots.length} snapshot(s) of ${driver} exist.
${[...firstOf(volumes.map(volumeLine)), ...firstOf(snapshots.map(snapshotLine))].join('\n')}
Delete their claims and VolumeSnapshots first (kubectl delete pvc ..., kubectl delete volumesnapshot ...), or keep the data and
uninstall anyway:
  helm uninstall ${release} --namespace ${namespace} --no-hooks
The volumes then stay on the nodes, and installing the chart again with the same pools serves them again.`);
  process.exitCode = 1;
}

/** All objects of a list, page by page; none if the cluster does not know the kind. */
async function listAll(path) {
  const found = [];
  let next = '';
  do {
    const page = await api('GET', `${path}?limit=500&continue=${encodeURIComponent(next)}`);
    found.push(...(page?.items ?? []));
    next = page?.metadata.continue ?? '';
  } while (next !== '');
  return found;
}

function volumeLine({ metadata, spec, status }) {
  const claim = spec.claimRef ? `claim ${spec.claimRef.namespace}/${spec.claimRef.name}` : 'no claim';
  return `  ${metadata.name}  ${spec.capacity.storage}  ${status.phase}, ${claim}`;
}

function snapshotLine({ metadata, spec }) {
  return `  ${metadata.name}  VolumeSnapshot ${spec.volumeSnapshotRef.namespace}/${spec.volumeSnapshotRef.name}`;
}

function firstOf(lines) {
  return lines.length > 10 ? [...lines.slice(0, 10), `  and ${lines.length - 10} more`] : lines;
}
