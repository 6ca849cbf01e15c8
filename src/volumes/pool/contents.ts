import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import type { PoolAbilities } from './open-directory.ts';
import type { Index } from './record-index.ts';
import type { PoolSettings } from './settings.ts';

/** What the accounting of space has to know of its pool. */
export interface PoolContents {
  readonly name: string;
  readonly settings: PoolSettings;
  /** The real path of its directory. Throws `unavailable` while the pool is not mounted. */
  readonly root: string;
  readonly abilities: PoolAbilities | undefined;
  readonly volumes: Index<VolumeRecord>;
  readonly ephemerals: Index<VolumeRecord>;
  readonly snapshots: Index<SnapshotRecord>;
  /** Something has failed on its disk. */
  suspect(): void;
  /** The result of `work`, or the reason as soon as the pool is no longer served. */
  whileServed<T>(work: () => Promise<T>): Promise<T>;
}
