import { createHash } from 'node:crypto';
import type { Topology, TopologyRequirement } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';

/** CSI spec, "Topology": keys' prefixes and values have at most 63 characters. */
const longest = 63;
const valueForm = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** The one place this driver's volumes can be used at: this node. */
export interface NodeTopology {
  readonly key: string;
  readonly value: string;
  readonly nodeId: string;
}

/**
 * The segment of this node: `topology.<driver name>/node` and the node id; a hashed form of an id that is too long for a label
 * value or has other characters.
 */
export function nodeTopology(driverName: string, nodeId: string): NodeTopology {
  const prefix = `topology.${driverName}`.length <= longest ? `topology.${driverName}` : driverName;
  return { key: `${prefix}/node`, value: labelValue(nodeId), nodeId };
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

/** Whether a place is this node: every segment it names is ours (keys without regard to case). One without segments is anywhere. */
export function isHere(topology: Topology, here: NodeTopology): boolean {
  return Object.entries(topology.segments).every(
    ([key, value]) => key.toLowerCase() === here.key.toLowerCase() && value === here.value,
  );
}

/** The values of this driver's own segment, which are node ids unless those have no form of a label value. */
export function mentionedNodeIds(
  requirement: TopologyRequirement | null,
  { key }: NodeTopology,
): readonly string[] {
  const places = [...(requirement?.requisite ?? []), ...(requirement?.preferred ?? [])];
  return places.flatMap(({ segments }) =>
    Object.entries(segments).flatMap(([name, value]) =>
      name.toLowerCase() === key.toLowerCase() ? [value] : [],
    ),
  );
}

/**
 * CSI spec, "CreateVolume", accessibility_requirements: one of `requisite` must be this node; `preferred` is only a wish, and
 * without either this node is as good as any. Throws `no-space`, on which a delayed-binding scheduler tries another node.
 */
export function requireReachable(
  requirement: TopologyRequirement | null,
  here: NodeTopology,
): void {
  const requisite = requirement?.requisite ?? [];
  if (requisite.length === 0 || requisite.some((topology) => isHere(topology, here))) return;
  const asked = requisite.map(({ segments }) =>
    Object.entries(segments)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  );
  throw new VolumeError(
    'no-space',
    `the topology asked for (${asked.slice(0, 5).join('; ')}) is not reachable from node '${here.nodeId}' (${here.key}=${here.value}); volumes are made where they are used`,
  );
}
