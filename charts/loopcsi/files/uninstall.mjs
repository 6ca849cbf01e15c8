// Refuses to uninstall while persistent volumes of the driver exist: without it nobody could mount, grow or delete them.
import { api } from './api.mjs';

const { DRIVER_NAME: driver, RELEASE_NAME: release, RELEASE_NAMESPACE: namespace } = process.env;

const volumes = [];
let next = '';
do {
  const page = await api('GET', `/api/v1/persistentvolumes?limit=500&continue=${encodeURIComponent(next)}`);
  volumes.push(...page.items.filter((volume) => volume.spec.csi?.driver === driver));
  next = page.metadata.continue ?? '';
} while (next !== '');

if (volumes.length === 0) {
  console.log(`no persistent volume of ${driver} exists: it may go`);
} else {
  const shown = volumes.slice(0, 10).map(({ metadata, spec, status }) => {
    const claim = spec.claimRef ? `claim ${spec.claimRef.namespace}/${spec.claimRef.name}` : 'no claim';
    return `  ${metadata.name}  ${spec.capacity.storage}  ${status.phase}, ${claim}`;
  });
  if (volumes.length > shown.length) shown.push(`  and ${volumes.length - shown.length} more`);
  console.log(`${release} is not uninstalled: ${volumes.length} persistent volume(s) of ${driver} exist.
${shown.join('\n')}
Delete their claims first (kubectl delete pvc ...), or keep the data and uninstall all the same:
  helm uninstall ${release} --namespace ${namespace} --no-hooks
The volumes then stay on the nodes as they are; installing the chart again with the same pools serves them again.`);
  process.exitCode = 1;
}
