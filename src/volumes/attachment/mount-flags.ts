import type { VolumeRecord } from '../../state/records.ts';
import { parseMountOptions } from '../parameters/mount-options.ts';

/**
 * The options with which the filesystem is mounted at the staging path: those of the volume, then those of the request. Throws
 * `invalid` with the name of an option that is not allowed. A raw block volume has none.
 */
export function mountOptionsOf(
  record: VolumeRecord,
  mountFlags: readonly string[],
): readonly string[] {
  if (record.fsType === null) return [];
  const options = parseMountOptions(record.fsType, [...record.mountOptions, ...mountFlags]);
  const discard = record.trim === 'online' && !options.includes('discard') ? ['discard'] : [];
  // A filesystem from a block device has the UUID of its original, which may be mounted too (ADR 0032).
  const nouuid = record.fsType === 'xfs' && record.createdKind === 'block' ? ['nouuid'] : [];
  return [...options, ...discard, ...nouuid];
}

/** Throws `invalid` for a mount flag that is not allowed for the filesystem of the volume. */
export function requireAllowedMountFlags(
  record: VolumeRecord,
  mountFlags: readonly string[],
): void {
  mountOptionsOf(record, mountFlags);
}
