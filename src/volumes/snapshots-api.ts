/** The calls about snapshots, groups of them, and what changed between two. Part of `Volumes` (api.ts). */

import type { Call } from './engine/operations.ts';
import type {
  BlockRanges,
  CreateGroupSnapshotInput,
  CreateSnapshotInput,
  GroupSnapshot,
  Page,
  Snapshot,
  SnapshotFilter,
  SnapshotProgress,
} from './model.ts';

export interface Snapshots {
  /** A long copy from an idle volume is answered while it runs: `state` is then `copying`. */
  createSnapshot(call: Call, input: CreateSnapshotInput): Promise<Snapshot>;
  deleteSnapshot(call: Call, snapshotId: string): Promise<void>;
  /** Throws `not-found`. */
  getSnapshot(call: Call, snapshotId: string): Promise<Snapshot>;
  /** Ascending by id. Filters hold together; one that fits nothing gives an empty page. Throws `stale-token`. */
  listSnapshots(
    call: Call,
    asked: SnapshotFilter & { maxEntries: number; startingToken: string },
  ): Promise<Page<Snapshot>>;
  /** How far its copy is, at once and whenever it moves; ends after `ready` or `error`. Throws `not-found`. */
  watchSnapshot(call: Call, snapshotId: string): AsyncIterable<SnapshotProgress>;

  createGroupSnapshot(call: Call, input: CreateGroupSnapshotInput): Promise<GroupSnapshot>;
  /** `snapshotIds` must be the group's members, or `invalid`. An unknown group is deleted already. */
  deleteGroupSnapshot(call: Call, groupId: string, snapshotIds: readonly string[]): Promise<void>;
  /** Throws `not-found`, and `invalid` when `snapshotIds` are not its members. */
  getGroupSnapshot(
    call: Call,
    groupId: string,
    snapshotIds: readonly string[],
  ): Promise<GroupSnapshot>;

  /**
   * What of a snapshot holds data, from `startingOffset` on. Throws `not-found`, `out-of-range` for an offset outside the
   * volume, `unavailable` while it is being copied.
   */
  allocatedRanges(
    call: Call,
    asked: { snapshotId: string; startingOffset: bigint; batchSize: number },
  ): Promise<BlockRanges>;
  /** In what the target may differ from the base. Throws the same, and `invalid` for snapshots of two volumes. */
  changedRanges(
    call: Call,
    asked: {
      baseSnapshotId: string;
      targetSnapshotId: string;
      startingOffset: bigint;
      batchSize: number;
    },
  ): Promise<BlockRanges>;
}
