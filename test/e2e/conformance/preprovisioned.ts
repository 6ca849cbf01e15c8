/**
 * What an operator does for a VolumeSnapshotContent made by hand (docs/kubernetes.md, "Snapshots"): with distributed snapshotting a
 * content names its node in a label, and the suite, which knows nothing of that, makes some without.
 */
import { textAt } from '../kube/api.ts';
import { api, layout } from '../kube/scenario.ts';

const managedBy = 'snapshot.storage.kubernetes.io/managed-by';

/** Labels them as they appear, until the signal. */
export async function labelPreProvisioned(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    for (const { metadata, ...content } of await api.list('VolumeSnapshotContent')) {
      const labels = metadata['labels'];
      const isLabelled = typeof labels === 'object' && labels !== null && managedBy in labels;
      if (isLabelled || textAt(content, 'spec.source.snapshotHandle') === undefined) continue;
      const patch = { metadata: { labels: { [managedBy]: layout.nodeName } } };
      await api.patch('VolumeSnapshotContent', '', metadata.name, patch);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 1_000);
    });
  }
}
