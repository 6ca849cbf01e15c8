/** Formats the Kubernetes objects that volumes and snapshots belong to. docs/command-line.md lists the JSON keys. */
import type { GroupSnapshot, Snapshot, Volume } from '../csi/admin-types.ts';

type Owned = Pick<Volume, 'owner'>;
type OwnedSnapshot = Pick<Snapshot | GroupSnapshot, 'owner'>;

export function textOrNull(text: string): string | null {
  return text === '' ? null : text;
}

/** `namespace/claim`, or the pod of an inline volume; '' for a volume that was not created for Kubernetes. */
export function ownerTextOf({ owner }: Owned): string {
  if (owner === null) return '';
  return `${owner.namespace}/${owner.claim === '' ? owner.pod : owner.claim}`;
}

export function ownerAsJson({ owner }: Owned) {
  if (owner === null) return null;
  return {
    namespace: owner.namespace,
    claim: textOrNull(owner.claim),
    persistentVolume: textOrNull(owner.persistent_volume),
    pod: textOrNull(owner.pod),
  };
}

/** `namespace/name` of the VolumeSnapshot; for a member of a group, of its VolumeGroupSnapshot. */
export function snapshotOwnerTextOf({ owner }: OwnedSnapshot): string {
  if (owner === null) return '';
  const { namespace, volume_snapshot, volume_group_snapshot } = owner;
  return volume_snapshot === ''
    ? `${namespace}/${volume_group_snapshot} (group)`
    : `${namespace}/${volume_snapshot}`;
}

export function snapshotOwnerAsJson({ owner }: OwnedSnapshot) {
  if (owner === null) return null;
  return {
    namespace: owner.namespace,
    volumeSnapshot: textOrNull(owner.volume_snapshot),
    volumeSnapshotContent: textOrNull(owner.volume_snapshot_content),
    volumeGroupSnapshot: textOrNull(owner.volume_group_snapshot),
  };
}

/** `namespace/name` of the VolumeGroupSnapshot of a group. */
export function groupOwnerTextOf({ owner }: Pick<GroupSnapshot, 'owner'>): string {
  return owner === null ? '' : `${owner.namespace}/${owner.volume_group_snapshot}`;
}
