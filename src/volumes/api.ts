/**
 * The calls of CSI, some of which Docker's front uses too. `open.ts` builds the object; most methods have a file of their own.
 * `admin/calls.ts` has the calls of the command line, `docker/volumes.ts` those of Docker alone.
 */

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
  /** Ascending by id; `maxEntries` 0 means all. Throws `stale-token` for an unknown token. */
  listVolumes(page: { maxEntries: number; startingToken: string }): Promise<Page<Volume>>;
  /** Why the volume does not match the capabilities, parameters or context; undefined if it does. Throws `not-found`. */
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
  /** Records the promised size and grows the image. `nodeExpansionRequired`: a filesystem or attached device has the old size. */
  expandVolume(
    call: Call,
    input: ExpandInput,
  ): Promise<{ sizeBytes: bigint; nodeExpansionRequired: boolean }>;

  /** While a long copy of an idle volume runs, `state` is `copying`. */
  createSnapshot(call: Call, input: CreateSnapshotInput): Promise<Snapshot>;
  deleteSnapshot(call: Call, snapshotId: string): Promise<void>;
  /** Throws `not-found`. */
  getSnapshot(snapshotId: string): Promise<Snapshot>;
  /** Ascending by id. A snapshot must match all filters. Throws `stale-token`. */
  listSnapshots(
    asked: SnapshotFilter & { maxEntries: number; startingToken: string },
  ): Promise<Page<Snapshot>>;
  /** Yields the progress of the copy now and at each change; ends after `ready` or `error`. Throws `not-found`. */
  watchSnapshot(call: Call, snapshotId: string): AsyncIterable<SnapshotProgress>;

  createGroupSnapshot(call: Call, input: CreateGroupSnapshotInput): Promise<GroupSnapshot>;
  /** Throws `invalid` if `snapshotIds` are not the group's members. An unknown group counts as deleted. */
  deleteGroupSnapshot(call: Call, groupId: string, snapshotIds: readonly string[]): Promise<void>;
  /** Throws `not-found`, and `invalid` if `snapshotIds` are not the group's members. */
  getGroupSnapshot(groupId: string, snapshotIds: readonly string[]): Promise<GroupSnapshot>;

  /**
   * Ranges of a snapshot with data, from `startingOffset` on. Throws `not-found`, `out-of-range` for an offset beyond the end,
   * `unavailable` while it is being copied.
   */
  allocatedRanges(
    call: Call,
    asked: { snapshotId: string; startingOffset: bigint; batchSize: number },
  ): Promise<BlockRanges>;
  /** Ranges in which the target may differ from the base. Throws the same, and `invalid` for snapshots of different volumes. */
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
  /** Grows device and filesystem; the image, too, if the request promises a new size. */
  nodeExpandVolume(call: Call, input: NodeExpandInput): Promise<{ sizeBytes: bigint }>;

  /** Empty for a healthy volume. Throws `not-found`. */
  volumeHealth(volumeId: string): Promise<readonly VolumeCondition[]>;
  /** Only volumes with conditions. */
  listVolumeHealth(page: {
    maxEntries: number;
    startingToken: string;
  }): Promise<Page<VolumeHealth>>;
  storageHealth(): Promise<readonly StorageCondition[]>;
  /** Why the node cannot serve, and what to do; undefined if it can: all programs and at least one pool are available. */
  findReadinessProblem(): Promise<string | undefined>;
  /** The maximum number of volumes, limited by loop devices: a raw block volume may need two. */
  readonly maxVolumesPerNode: number;
}
