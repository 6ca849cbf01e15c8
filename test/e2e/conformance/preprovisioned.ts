/**
 * Does what an operator must do for a manually created VolumeSnapshotContent (docs/kubernetes.md, "Snapshots"): with distributed
 * snapshotting, a label names its node. The suite does not know this label and creates some contents without it.
 */
import { textAt } from '../kube/api.ts';
import { api, cluster } from '../kube/scenario.ts';

const managedBy = 'snapshot.storage.kubernetes.io/managed-by';

/** Labels new contents until the signal is aborted. */
export async function labelPreProvisioned(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    for (const { metadata, ...content } of await api.list('VolumeSnapshotContent')) {
      const labels = metadata['labels'];
      const isLabelled = typeof labels === 'object' && labels !== null && managedBy in labels;
      const handle = textAt(content, 'spec.source.snapshotHandle');
      if (isLabelled || handle === undefined) continue;
      const { name } = await cluster.nodeOf(handle);
      const patch = { metadata: { labels: { [managedBy]: name } } };
      await api.patch('VolumeSnapshotContent', '', metadata.name, patch);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 1_000);
    });
  }
}
