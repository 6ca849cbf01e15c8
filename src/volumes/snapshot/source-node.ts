import { VolumeError } from '../../errors.ts';
import { nodeTagOf, otherNodeOf } from '../ids.ts';
import type { VolumeSource } from '../model.ts';

/**
 * A copy is made on the node that has its source. Throws `no-space` when that is another node, whatever that node would say:
 * to a caller that can choose nodes it means "not here", where `not-found` would mean "nowhere" and end its attempt. Ids hold
 * only the tag of their node, so the node is named when it is among `mentionedNodeIds`.
 */
export function requireSourceHere(
  source: VolumeSource | null,
  options: { nodeTag: string; mentionedNodeIds: readonly string[]; what: string },
): void {
  const { nodeTag, mentionedNodeIds, what } = options;
  const tag = source === null ? undefined : otherNodeOf(source.id, nodeTag);
  if (source === null || tag === undefined) return;
  const nodeId = mentionedNodeIds.find((id) => nodeTagOf(id) === tag);
  const node = nodeId === undefined ? `the node with tag ${tag}` : `node '${nodeId}' (tag ${tag})`;
  throw new VolumeError(
    'no-space',
    `${what}: its source, ${source.kind} '${source.id}', is on ${node}, and this is the node with tag ${nodeTag}; a copy is made where its source is: create it there (in Kubernetes: place the pod on that node, which the node affinity of the source's PersistentVolume names)`,
  );
}
