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

/** The id by which calls name and lock the volume. For an inline volume it is the kubelet's id, which is the name in the record. */
export function callIdOf({ record, area }: Omit<VolumeImage, 'imagePath'>): string {
  return area === 'ephemeral' ? record.name : record.id;
}

/** The parts of a pool that the accounting of its space reads. */
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
  /** Makes the next check of the pool run a write probe, because a call on its disk has failed. */
  requestWriteProbe(): void;
  /** Returns the result of `work`, or throws the reason as soon as the pool is no longer served. */
  whileServed<T>(work: () => Promise<T>): Promise<T>;
}
