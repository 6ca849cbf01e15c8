import { createHash } from 'node:crypto';
import { VolumeError } from '../errors.ts';
import type { GroupId, SnapshotId, VolumeId } from '../state/ids.ts';

export type { GroupId, SnapshotId, VolumeId };

type AnyId = VolumeId | SnapshotId | GroupId;

const safeName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const idForm = /^([A-Za-z0-9][A-Za-z0-9._-]{0,99}|_[0-9a-f]{64})\.([0-9a-f]{8})$/;

/** The node's share of every id: the start of a hash of its node id. */
export function nodeTagOf(nodeId: string): string {
  return createHash('sha256').update(nodeId).digest('hex').slice(0, 8);
}

function hashedBase(name: string): string {
  return `_${createHash('sha256').update(name).digest('hex')}`;
}

/**
 * The id that follows from a name: the name itself where it is safe as a file name, else its hash; then the node's tag. At
 * most 109 bytes, so within the 128 of the CSI spec ("Size Limits"). Deterministic: a repeated create meets the same id.
 */
function deriveId(name: string, nodeTag: string): string {
  const base = safeName.test(name) ? name : hashedBase(name);
  return `${base}.${nodeTag}`;
}

export const volumeIdFor = (name: string, nodeTag: string): VolumeId =>
  deriveId(name, nodeTag) as VolumeId;
/** The id of an inline ephemeral volume: the kubelet's name for it has no form, so always the hash. */
export const ephemeralIdFor = (name: string, nodeTag: string): VolumeId =>
  `${hashedBase(name)}.${nodeTag}` as VolumeId;
export const snapshotIdFor = (name: string, nodeTag: string): SnapshotId =>
  deriveId(name, nodeTag) as SnapshotId;
export const groupIdFor = (name: string, nodeTag: string): GroupId =>
  deriveId(name, nodeTag) as GroupId;

/** The id if it has the form of ours, else undefined: only then may it become part of a path. */
function parse<T extends AnyId>(id: string): T | undefined {
  return idForm.test(id) ? (id as T) : undefined;
}

export const parseVolumeId = (id: string): VolumeId | undefined => parse<VolumeId>(id);
export const parseSnapshotId = (id: string): SnapshotId | undefined => parse<SnapshotId>(id);
export const parseGroupId = (id: string): GroupId | undefined => parse<GroupId>(id);

/** The node tag at the end of an id. */
export function tagOf(id: AnyId): string {
  return id.slice(-8);
}

/** The tag of the other node that an id belongs to; undefined for an id of this node, or of no form of ours. */
export function otherNodeOf(id: string, nodeTag: string): string | undefined {
  const parsed = parse(id);
  if (parsed === undefined || tagOf(parsed) === nodeTag) return undefined;
  return tagOf(parsed);
}

/** Throws `not-found` for an id of another form or node: it names nothing that this node could have. */
export function requireOurs<T extends AnyId>(
  id: string,
  options: { nodeTag: string; kind: string },
): T {
  const { nodeTag, kind } = options;
  const parsed = parse<T>(id);
  if (parsed === undefined) throw new VolumeError('not-found', `${kind} '${id}' does not exist`);
  if (tagOf(parsed) !== nodeTag) {
    throw new VolumeError(
      'not-found',
      `${kind} '${id}' belongs to another node (tag ${tagOf(parsed)}, this one is ${nodeTag}); ask the driver of that node`,
    );
  }
  return parsed;
}

/** Names of pools, in StorageClasses and commands. */
export const poolNameForm = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
