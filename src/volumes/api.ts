/** The calls a front may make of the domain. `open.ts` builds the object; each method is one story in its own file. */

import type { FsType } from '../host/host.ts';
import type { Call } from './engine/operations.ts';
import type {
  BlockRanges,
  Capability,
  CreateGroupSnapshotInput,
  CreateSnapshotInput,
  CreateVolumeInput,
  ExpandInput,
  GroupSnapshot,
  NodeExpandInput,
  Page,
  PoolCapacity,
  PublishInput,
  Snapshot,
  SnapshotFilter,
  SnapshotProgress,
  StageInput,
  StorageCondition,
  Volume,
  VolumeCondition,
  VolumeHealth,
  VolumeSettings,
  VolumeStats,
} from './model.ts';

export interface Volumes {
  createVolume(call: Call, input: CreateVolumeInput): Promise<Volume>;
  deleteVolume(call: Call, volumeId: string): Promise<void>;
  /** Throws `not-found`. */
  getVolume(volumeId: string): Promise<Volume>;
  /** Ascending by id; `maxEntries` 0 means all. Throws `stale-token` for a token that is none of ours. */
  listVolumes(page: { maxEntries: number; startingToken: string }): Promise<Page<Volume>>;
  /** undefined when every capability (and the rest) fits the volume, else why not. Throws `not-found`. */
  findMismatch(
    volumeId: string,
    asked: {
      capabilities: readonly Capability[];
      parameters: Readonly<Record<string, string>>;
      context: Readonly<Record<string, string>>;
    },
  ): Promise<string | undefined>;
  capacity(asked: {
    pool: string | undefined;
    provisioning: VolumeSettings['provisioning'];
    fsType: FsType | null;
  }): Promise<PoolCapacity>;
  /** Promises and grows the image. `nodeExpansionRequired`: a filesystem or an attached device still has the old size. */
  expandVolume(
    call: Call,
    input: ExpandInput,
  ): Promise<{ sizeBytes: bigint; nodeExpansionRequired: boolean }>;

  /** A long copy from an idle volume is answered while it runs: `state` is then `copying`. */
  createSnapshot(call: Call, input: CreateSnapshotInput): Promise<Snapshot>;
  deleteSnapshot(call: Call, snapshotId: string): Promise<void>;
  /** Throws `not-found`. */
  getSnapshot(snapshotId: string): Promise<Snapshot>;
  /** Ascending by id. Filters hold together; one that fits nothing gives an empty page. Throws `stale-token`. */
  listSnapshots(
    asked: SnapshotFilter & { maxEntries: number; startingToken: string },
  ): Promise<Page<Snapshot>>;
  /** How far its copy is, at once and whenever it moves; ends after `ready` or `error`. Throws `not-found`. */
  watchSnapshot(call: Call, snapshotId: string): AsyncIterable<SnapshotProgress>;

  createGroupSnapshot(call: Call, input: CreateGroupSnapshotInput): Promise<GroupSnapshot>;
  /** `snapshotIds` must be the group's members, or `invalid`. An unknown group is deleted already. */
  deleteGroupSnapshot(call: Call, groupId: string, snapshotIds: readonly string[]): Promise<void>;
  /** Throws `not-found`, and `invalid` when `snapshotIds` are not its members. */
  getGroupSnapshot(groupId: string, snapshotIds: readonly string[]): Promise<GroupSnapshot>;

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

  stageVolume(call: Call, input: StageInput): Promise<void>;
  unstageVolume(call: Call, input: { volumeId: string; stagingTargetPath: string }): Promise<void>;
  publishVolume(call: Call, input: PublishInput): Promise<void>;
  unpublishVolume(call: Call, input: { volumeId: string; targetPath: string }): Promise<void>;
  volumeStats(input: { volumeId: string; volumePath: string }): Promise<VolumeStats>;
  /** Grows what the node has: image if the promise is new, device, filesystem. */
  nodeExpandVolume(call: Call, input: NodeExpandInput): Promise<{ sizeBytes: bigint }>;

  /** Empty: healthy. Throws `not-found`. */
  volumeHealth(volumeId: string): Promise<readonly VolumeCondition[]>;
  /** Only volumes with conditions. */
  listVolumeHealth(page: {
    maxEntries: number;
    startingToken: string;
  }): Promise<Page<VolumeHealth>>;
  storageHealth(): Promise<readonly StorageCondition[]>;
  /** undefined when the node can serve: at least one pool, every needed program; else why not, and what to do. */
  findUnready(): Promise<string | undefined>;
  /** Loop devices bound the number of volumes; two a raw block volume. */
  readonly maxVolumesPerNode: number;
}
