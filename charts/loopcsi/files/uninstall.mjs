// Refuses to uninstall the chart while volumes or snapshots of the driver exist, because only the driver can mount, expand or
// delete them.
import { api } from './api.mjs';

const { DRIVER_NAME: driver, RELEASE_NAME: release, RELEASE_NAMESPACE: namespace } = process.env;

const volumes = (await listAll('/api/v1/persistentvolumes')).filter(({ spec }) => spec.csi?.driver === driver);
const contents =
  process.env.SNAPSHOTS === 'true' ? await listAll('/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents') : [];
const snapshots = contents.filter(({ spec }) => spec.driver === driver);

if (volumes.length + snapshots.length === 0) {
  console.log(`no persistent volume or snapshot of ${driver} exists: ${release} can be uninstalled`);
} else {
  console.log(`${release} was not uninstalled: ${volumes.length} persistent volume(s) and ${snapshots.length} snapshot(s) of ${driver} exist.
${[...firstOf(volumes.map(volumeLine)), ...firstOf(snapshots.map(snapshotLine))].join('\n')}
Delete their claims and VolumeSnapshots first (kubectl delete pvc ..., kubectl delete volumesnapshot ...). To keep the data and
uninstall anyway, run:
  helm uninstall ${release} --namespace ${namespace} --no-hooks
The volumes then stay on the nodes. They can be used again once the chart is installed again with the same pools.`);
  process.exitCode = 1;
}

/** Returns all objects of a kind, or none if the cluster does not know the kind. Reads them page by page. */
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
