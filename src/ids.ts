import { createHash } from 'node:crypto';
import { VolumeError } from './errors.ts';
import type { EntryId, EntryName, FoundName, GroupId, SnapshotId, VolumeId } from './state/ids.ts';

export type { EntryId, EntryName, FoundName, GroupId, SnapshotId, VolumeId };

const safeName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const idForm = /^([A-Za-z0-9][A-Za-z0-9._-]{0,99}|_[0-9a-f]{64})\.([0-9a-f]{8})$/;

/** The node tag: the first 8 hex digits of the SHA-256 of the node's id. */
export function nodeTagOf(nodeId: string): string {
  return createHash('sha256').update(nodeId).digest('hex').slice(0, 8);
}

function hashedBase(name: string): string {
  return `_${createHash('sha256').update(name).digest('hex')}`;
}

/**
 * Derives an id from a name: the name itself if it is a safe file name, otherwise its hash, followed by the node tag. An id has at
 * most 109 bytes; the CSI spec ("Size Limits") allows 128. The same name always gets the same id, so a repeated create finds the
 * volume.
 */
function deriveId(name: string, nodeTag: string): string {
  const base = safeName.test(name) ? name : hashedBase(name);
  return `${base}.${nodeTag}`;
}

export const volumeIdFor = (name: string, nodeTag: string): VolumeId =>
  deriveId(name, nodeTag) as VolumeId;
/** The id of an inline volume. It is always a hash, since the id that the kubelet chose need not be a safe file name. */
export const ephemeralIdFor = (name: string, nodeTag: string): VolumeId =>
  `${hashedBase(name)}.${nodeTag}` as VolumeId;
export const snapshotIdFor = (name: string, nodeTag: string): SnapshotId =>
  deriveId(name, nodeTag) as SnapshotId;
export const groupIdFor = (name: string, nodeTag: string): GroupId =>
  deriveId(name, nodeTag) as GroupId;

/**
 * The id of a member of a group snapshot. The slash in its name makes the id a hash, so that it cannot collide with the id of a snapshot that
 * has a plain name.
 */
export const memberIdFor = (groupName: string, volumeId: string, nodeTag: string): SnapshotId =>
  snapshotIdFor(memberNameOf(groupName, volumeId), nodeTag);

/** The name of a member of a group snapshot. */
export function memberNameOf(groupName: string, volumeId: string): string {
  return `${groupName}/${volumeId}`;
}

/** Returns undefined for an id without the form of this driver's ids, which must not become part of a path. */
function parse<T extends EntryId>(id: string): T | undefined {
  return idForm.test(id) ? (id as T) : undefined;
}

export const parseVolumeId = (id: string): VolumeId | undefined => parse<VolumeId>(id);
export const parseSnapshotId = (id: string): SnapshotId | undefined => parse<SnapshotId>(id);
export const parseGroupId = (id: string): GroupId | undefined => parse<GroupId>(id);

/** Marks a name that was read from a directory of a pool, or from the path of an image. Never use it for a name from a request. */
export function foundName(name: string): FoundName {
  return name as FoundName;
}

/** The node tag at the end of an id. */
export function nodeTagIn(id: EntryId): string {
  return id.slice(-8);
}

/** The node tag at the end of the name of an entry on the disk; undefined if it has none. */
export function findNodeTag(name: string): string | undefined {
  return /\.([0-9a-f]{8})$/.exec(name)?.[1];
}

/** The id with the node tag `to`, if its node tag is `from`; any other id or name is returned unchanged. */
export function withNodeTag<Id extends string>(
  id: Id,
  { from, to }: { readonly from: string; readonly to: string },
): Id {
  // The cast is safe, because the result is an id of the same kind.
  return findNodeTag(id) === from ? (`${id.slice(0, -from.length)}${to}` as Id) : id;
}

/** The tag of the node that made the id; undefined for an id without the form of this driver's ids. */
export function tagOfId(id: string): string | undefined {
  const parsed = parse(id);
  return parsed === undefined ? undefined : nodeTagIn(parsed);
}

/**
 * Returns the tag of the node that an id belongs to; undefined for an id of this node, or one without the form of this driver's
 * ids.
 */
export function otherNodeTagIn(id: string, nodeTag: string): string | undefined {
  const parsed = parse(id);
  if (parsed === undefined || nodeTagIn(parsed) === nodeTag) return undefined;
  return nodeTagIn(parsed);
}

/** The error for an id that no node has. */
export function missing(kind: string, id: string): VolumeError {
  return new VolumeError('not-found', `${kind} '${id}' does not exist`);
}

/** Throws `not-found` for an id that cannot exist on this node, because of its form or its node tag. */
export function requireOwnId<T extends EntryId>(
  id: string,
  options: { nodeTag: string; kind: string },
): T {
  const { nodeTag, kind } = options;
  const parsed = parse<T>(id);
  if (parsed === undefined) throw missing(kind, id);
  if (nodeTagIn(parsed) !== nodeTag) {
    throw new VolumeError(
      'not-found',
      `${kind} '${id}' belongs to another node (tag ${nodeTagIn(parsed)}, but this node has tag ${nodeTag}); call the driver of that node`,
    );
  }
  return parsed;
}

/** Throws `wrong-state` for an id of another node: only the driver of that node can delete the volume or snapshot. */
export function requireOwnNodeTag(id: EntryId, options: { nodeTag: string; kind: string }): void {
  const { nodeTag, kind } = options;
  if (nodeTagIn(id) === nodeTag) return;
  throw new VolumeError(
    'wrong-state',
    `${kind} '${id}' belongs to the node with tag ${nodeTagIn(id)}, but this node has tag ${nodeTag}; delete it there`,
  );
}

/** The form of pool names, in StorageClasses and commands. */
export const poolNamePattern = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
