import { parseMountOptions } from '../../host/filesystem/allowed-mount-options.ts';
import type { VolumeRecord } from '../../state/records.ts';

/**
 * The options of a filesystem's mount at the staging path: what the volume has of its own, what the request adds, each word
 * checked against the allow-lists. Throws `invalid` naming the word. A raw block volume has none.
 */
export function mountWords(record: VolumeRecord, mountFlags: readonly string[]): readonly string[] {
  if (record.fsType === null) return [];
  const words = parseMountOptions(record.fsType, [...record.mountOptions, ...mountFlags]);
  return record.trim === 'online' && !words.includes('discard') ? [...words, 'discard'] : words;
}
