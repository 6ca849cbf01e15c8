import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import type { VolumeArea } from './layout.ts';
import type { PoolAbilities } from './open-directory.ts';
import type { RecordIndex } from './record-index.ts';
import type { PoolSettings } from './settings.ts';

/** A volume and the path of its image. */
export interface VolumeImage {
  readonly record: VolumeRecord;
  readonly area: VolumeArea;
  readonly imagePath: string;
}

/** The id by which calls name and lock the volume: of an inline volume it is the kubelet's, which its record has as the name. */
export function callIdOf({ record, area }: Omit<VolumeImage, 'imagePath'>): string {
  return area === 'ephemeral' ? record.name : record.id;
}

/** The parts of a pool that the accounting of its space needs. */
export interface PoolContents {
  readonly name: string;
  readonly settings: PoolSettings;
  /** The real path of its directory. Throws `unavailable` while the pool is not mounted. */
  readonly root: string;
  readonly abilities: PoolAbilities | undefined;
  readonly volumes: RecordIndex<VolumeRecord>;
  readonly ephemerals: RecordIndex<VolumeRecord>;
  readonly snapshots: RecordIndex<SnapshotRecord>;
  /** All volumes, inline ones included. */
  images(): Iterable<VolumeImage>;
  /** Makes the next check of the pool try a change, because something has failed on its disk. */
  requestWriteProbe(): void;
  /** The result of `work`, or the reason as soon as the pool is no longer served. */
  whileServed<T>(work: () => Promise<T>): Promise<T>;
}
