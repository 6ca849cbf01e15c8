/**
 * The calls that the CSI front makes into the domain; the Docker front uses some of them too. `open.ts` assembles the object, and
 * most methods are implemented in a file of their own. `admin/calls.ts` has the calls of the command line, `docker/volumes.ts` the
 * calls that only Docker makes.
 */

import type { FsType } from '../host/host.ts';
import type { Call } from './engine/operations.ts';
import type {
  BlockRanges,
  Capability,
  CreateGroupSnapshotInput,
  CreateSnapshotInput,
  CreateVolumeInput,
  DescribeOptions,
  End,
  ExpandInput,
  Expansion,
  GroupPartInput,
  GroupPartStart,
  GroupSnapshot,
  GroupState,
  GroupStep,
  GroupStepResult,
  ModifyInput,
  NodeExpandInput,
  Page,
  Piece,
  PoolCapacity,
  PublishInput,
  ReadPosition,
  RunningCopy,
  SentCopy,
  Snapshot,
  SnapshotFilter,
  SnapshotProgress,
  SourceFacts,
  StageInput,
  StorageCondition,
  Volume,
  VolumeCondition,
  VolumeHealth,
  VolumeOwner,
  VolumeSettings,
  VolumeStats,
} from './model.ts';
import type { NodeInventory } from './pool/inventory.ts';

export interface Volumes {
  createVolume(call: Call, input: CreateVolumeInput): Promise<Volume>;
  deleteVolume(call: Call, volumeId: string): Promise<void>;
  /** Throws `not-found` if the volume does not exist. */
  getVolume(volumeId: string): Promise<Volume>;
  /**
   * Sorted by id; `maxEntries` 0 means all. Throws `stale-token` for an unknown token, `unavailable` if the list would be
   * incomplete because a pool was never read since the driver started.
   */
  listVolumes(page: { maxEntries: number; startingToken: string }): Promise<Page<Volume>>;
  /** Returns why the volume does not match the capabilities, parameters or context, or undefined if it does. Throws `not-found`. */
  findMismatch(
    volumeId: string,
    request: {
      capabilities: readonly Capability[];
      parameters: Readonly<Record<string, string>>;
      context: Readonly<Record<string, string>>;
    },
  ): Promise<string | undefined>;
  capacity(request: {
    pool: string | undefined;
    provisioning: VolumeSettings['provisioning'];
    fsType: FsType | null;
    isLimited?: boolean;
  }): Promise<PoolCapacity>;
  /**
   * Records the promised size and grows the image. `remaining`: who grows the device and the filesystem.
   */
  expandVolume(call: Call, input: ExpandInput): Promise<Expansion>;

  /** Changes parameters of a volume, also while it is in use. Throws `wrong-state` for limits that this node cannot set. */
  modifyVolume(call: Call, input: ModifyInput): Promise<void>;

  /** The returned snapshot is in state `copying` while a long copy of an idle volume runs. */
  createSnapshot(call: Call, input: CreateSnapshotInput): Promise<Snapshot>;
  deleteSnapshot(call: Call, snapshotId: string): Promise<void>;
  /** Throws `not-found` if the snapshot does not exist. */
  getSnapshot(snapshotId: string): Promise<Snapshot>;
  /** Sorted by id; only snapshots that match all filters. Throws as `listVolumes` does. */
  listSnapshots(
    request: SnapshotFilter & { maxEntries: number; startingToken: string },
  ): Promise<Page<Snapshot>>;
  /** Yields the current progress of the copy, then every change; ends after `ready` or `error`. Throws `not-found`. */
  watchSnapshot(call: Call, snapshotId: string): AsyncIterable<SnapshotProgress>;

  createGroupSnapshot(call: Call, input: CreateGroupSnapshotInput): Promise<GroupSnapshot>;
  /** Throws `invalid` if `snapshotIds` are not the group's members. An unknown group counts as deleted. */
  deleteGroupSnapshot(call: Call, groupId: string, snapshotIds: readonly string[]): Promise<void>;
  /** Throws `not-found`, and `invalid` if `snapshotIds` are not the group's members. */
  getGroupSnapshot(groupId: string, snapshotIds: readonly string[]): Promise<GroupSnapshot>;

  /**
   * Takes the part of a group snapshot over several nodes that is on this one. Yields once, then ends when the part is committed, prepared
   * or given up, which happens also when the caller is gone. Throws as `createGroupSnapshot` does.
   */
  takeGroupPart(call: Call, input: GroupPartInput): AsyncIterable<GroupPartStart>;
  /** Lets the part of that attempt make a step. Throws `unavailable` if there is none, and why it has ended. */
  advanceGroupPart(attempt: string, step: GroupStep): Promise<GroupStepResult>;
  /** Whether a group exists whose record this node keeps. Throws `unavailable` while a pool that may have it is not served. */
  findGroupState(groupId: string): Promise<GroupState>;
  /**
   * The group of that attempt exists: its members on this node are used from now on. Throws `wrong-state` if one of `snapshotIds` is not
   * there.
   */
  settleGroupPart(
    call: Call,
    request: {
      readonly groupId: string;
      readonly attempt: string;
      readonly snapshotIds: readonly string[];
    },
  ): Promise<void>;
  /** The group does not exist: removes what that attempt has prepared, or without an attempt all its members on this node. */
  removeGroupPart(
    call: Call,
    request: {
      readonly groupId: string;
      readonly attempt: string | undefined;
      readonly snapshotIds: readonly string[];
    },
  ): Promise<void>;

  /**
   * Returns the ranges of a snapshot that contain data, starting at `startingOffset`. Throws `not-found`, `out-of-range` for an
   * offset beyond the end, and `unavailable` while the snapshot is being copied.
   */
  allocatedRanges(
    call: Call,
    request: { snapshotId: string; startingOffset: bigint; batchSize: number },
  ): Promise<BlockRanges>;
  /**
   * Returns the ranges in which the target may differ from the base. Throws as `allocatedRanges` does, and `invalid` for snapshots
   * of different volumes.
   */
  changedRanges(
    call: Call,
    request: {
      baseSnapshotId: string;
      targetSnapshotId: string;
      startingOffset: bigint;
      batchSize: number;
    },
  ): Promise<BlockRanges>;

  /** What another node has to know about a source on this one. Throws `not-found`, `unavailable`, `busy`, `wrong-state`. */
  describeSource(call: Call, copy: SentCopy, options: DescribeOptions): Promise<SourceFacts>;
  /** Reads a source for another node: the pieces from that position on, and their end. Throws as `describeSource`. */
  readSource(
    call: Call,
    request: { copy: SentCopy; state: string; from: ReadPosition },
  ): AsyncIterable<Piece | End>;
  /** Removes what was kept of a volume for a copy that exists now. */
  closeSource(copy: SentCopy): Promise<void>;
  /** Copies between this node and others that have not ended. */
  runningCopies(): readonly RunningCopy[];
  /** Whether copies between this node and others are allowed. */
  readonly allowsTransfers: boolean;

  stageVolume(call: Call, input: StageInput): Promise<void>;
  unstageVolume(call: Call, input: { volumeId: string; stagingTargetPath: string }): Promise<void>;
  publishVolume(call: Call, input: PublishInput): Promise<void>;
  unpublishVolume(call: Call, input: { volumeId: string; targetPath: string }): Promise<void>;
  volumeStats(input: { volumeId: string; volumePath: string }): Promise<VolumeStats>;
  /** Grows the device and the filesystem, and also the image if the request asks for a larger size. */
  nodeExpandVolume(call: Call, input: NodeExpandInput): Promise<{ sizeBytes: bigint }>;

  /** The claim or pod of a volume, by the id that calls use; undefined for an unknown volume, or one without an owner. */
  ownerOf(volumeId: string): VolumeOwner | undefined;
  /** Log fields with the owners of a volume or snapshot; empty for unknown ids. */
  ownerFieldsOf(ids: {
    volumeId: string | undefined;
    snapshotId: string | undefined;
  }): Readonly<Record<string, string>>;
  /** Empty for a healthy volume. Throws `not-found`. */
  volumeHealth(volumeId: string): Promise<readonly VolumeCondition[]>;
  /** Lists only the volumes that have conditions. */
  listVolumeHealth(page: {
    maxEntries: number;
    startingToken: string;
  }): Promise<Page<VolumeHealth>>;
  storageHealth(): Promise<readonly StorageCondition[]>;
  /** Returns why the node cannot serve and what to do about it, or undefined if all programs and at least one pool are available. */
  findReadinessProblem(): Promise<string | undefined>;
  /** What this node has, from memory. */
  inventory(): NodeInventory;
  /** Limited by the number of loop devices: a raw block volume may need two. */
  readonly maxVolumesPerNode: number;
}
