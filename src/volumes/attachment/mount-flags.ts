import type { VolumeRecord } from '../../state/records.ts';
import { parseMountOptions } from '../parameters/mount-options.ts';

/**
 * The options of the filesystem's mount at the staging path: those of the volume, then those of the request. Throws `invalid`
 * and names the option if one is not allowed. A raw block volume has none.
 */
export function mountOptionsOf(
  record: VolumeRecord,
  mountFlags: readonly string[],
): readonly string[] {
  if (record.fsType === null) return [];
  const options = parseMountOptions(record.fsType, [...record.mountOptions, ...mountFlags]);
  return record.trim === 'online' && !options.includes('discard')
    ? [...options, 'discard']
    : options;
}

/** Throws `invalid` for a mount flag that the volume's filesystem may not be mounted with. */
export function requireAllowedMountFlags(
  record: VolumeRecord,
  mountFlags: readonly string[],
): void {
  mountOptionsOf(record, mountFlags);
}
