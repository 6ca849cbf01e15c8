import { createHash } from 'node:crypto';
import type { Topology, TopologyRequirement } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';

/** Maximum length of the prefix of a key, and of a value (CSI spec, "Topology"). */
const maxLength = 63;
const valueForm = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** The topology segment of this node, the only one where its volumes can be used. */
export interface NodeTopology {
  readonly key: string;
  readonly value: string;
  readonly nodeId: string;
}

/**
 * Returns the segment of this node: `topology.<driver name>/node` with the node id as its value. An id that is not a valid
 * label value is shortened, and a hash is appended.
 */
export function topologyOfNode(driverName: string, nodeId: string): NodeTopology {
  const prefix =
    `topology.${driverName}`.length <= maxLength ? `topology.${driverName}` : driverName;
  return topologyOfOther({ key: `${prefix}/node` }, nodeId);
}

/** The topology of another node of the same driver. */
export function topologyOfOther({ key }: Pick<NodeTopology, 'key'>, nodeId: string): NodeTopology {
  return { key, value: labelValue(nodeId), nodeId };
}

function labelValue(nodeId: string): string {
  if (valueForm.test(nodeId)) return nodeId;
  const hash = createHash('sha256').update(nodeId).digest('hex').slice(0, 16);
  const readable = nodeId
    .replaceAll(/[^-A-Za-z0-9_.]/g, '-')
    .replace(/^[-_.]+/, '')
    .slice(0, 46);
  return readable === '' ? hash : `${readable}-${hash}`;
}

export function accessibleTopology({ key, value }: NodeTopology): Topology {
  return { segments: { [key]: value } };
}

/**
 * Whether all segments of the topology match this node. Keys are case-insensitive. A topology without segments includes all
 * nodes.
 */
export function includesNode(topology: Topology, thisNode: NodeTopology): boolean {
  return Object.entries(topology.segments).every(
    ([key, value]) => key.toLowerCase() === thisNode.key.toLowerCase() && value === thisNode.value,
  );
}

/**
 * Returns the values of this driver's key in a requirement. Each is a node id, or its replacement if the id is not a valid
 * label value.
 */
export function mentionedNodeIds(
  requirement: TopologyRequirement | null,
  { key }: NodeTopology,
): readonly string[] {
  const topologies = [...(requirement?.requisite ?? []), ...(requirement?.preferred ?? [])];
  return topologies.flatMap(({ segments }) =>
    Object.entries(segments).flatMap(([name, value]) =>
      name.toLowerCase() === key.toLowerCase() ? [value] : [],
    ),
  );
}

/**
 * If `requisite` is set, it must include this node; `preferred` does not exclude a node (CSI spec, "CreateVolume",
 * accessibility_requirements). Throws `no-space`, because a scheduler with delayed binding then tries another node.
 */
export function requireReachable(
  requirement: TopologyRequirement | null,
  thisNode: NodeTopology,
): void {
  const requisite = requirement?.requisite ?? [];
  if (requisite.length === 0 || requisite.some((topology) => includesNode(topology, thisNode)))
    return;
  const requested = requisite.map(({ segments }) =>
    Object.entries(segments)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  );
  throw new VolumeError(
    'no-space',
    `the requested topology (${requested.slice(0, 5).join('; ')}) does not include node '${thisNode.nodeId}' (${thisNode.key}=${thisNode.value}); volumes are created on the node where they are used`,
  );
}
