import { VolumeError } from '../../errors.ts';
import { nodeTagOf, otherNodeTagIn } from '../../ids.ts';
import type { VolumeSource } from '../model.ts';

/**
 * A copy can only be made on the node of its source. Throws `no-space` if that is another node, whether or not the source exists
 * there: `no-space` makes a caller that can choose nodes try another one, whereas `not-found` would end its attempt. Ids contain
 * only the tag of their node, so the message names the node only if it is among `mentionedNodeIds`.
 */
export function requireSourceHere(
  source: VolumeSource,
  options: { nodeTag: string; mentionedNodeIds: readonly string[]; subject: string },
): void {
  const { nodeTag, mentionedNodeIds, subject } = options;
  const tag = otherNodeTagIn(source.id, nodeTag);
  if (tag === undefined) return;
  const nodeId = mentionedNodeIds.find((id) => nodeTagOf(id) === tag);
  const node = nodeId === undefined ? `the node with tag ${tag}` : `node '${nodeId}' (tag ${tag})`;
  throw new VolumeError(
    'no-space',
    `${subject}: its source, ${source.kind} '${source.id}', is on ${node}, and this is the node with tag ${nodeTag}; a copy can only be made on the node of its source: create it there (in Kubernetes: 'kubectl loopcsi doctor' names that node, to which the pod must be scheduled)`,
  );
}
