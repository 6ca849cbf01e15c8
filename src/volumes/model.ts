/**
 * Inputs and results of the domain. They use the terms of the CSI spec, but not the types of any protocol: rpc/, docker/ and cli/
 * convert their own. The fronts have validated the form of all inputs; the domain checks whatever depends on a volume.
 */
import { VolumeError } from '../errors.ts';
import type { FsType, IoLimits, SectorSize } from '../host/host.ts';
import type {
  GroupRecord,
  MemberElsewhere,
  SnapshotRecord,
  VolumeRecord,
} from '../state/records.ts';
import type { CapacityRange, GrowthLimit } from './capacity.ts';

/** Part of error messages. The command line replaces it with its own flag. */
export const freezeAdvice = "snapshot class parameter freeze: 'yes'; then restore that snapshot";

export type VolumeKind = 'mount' | 'block';

/** The access modes that this driver supports (CSI spec, "VolumeCapability.AccessMode"). The front refuses others. */
export const accessModes = [
  'SINGLE_NODE_WRITER',
  'SINGLE_NODE_READER_ONLY',
  'SINGLE_NODE_SINGLE_WRITER',
  'SINGLE_NODE_MULTI_WRITER',
  'MULTI_NODE_READER_ONLY',
] as const;
export type AccessMode = (typeof accessModes)[number];

/** The capability of a request. */
export interface Capability {
  readonly kind: VolumeKind;
  /** '' if the request names none, and for every block volume. */
  readonly fsType: FsType | '';
  readonly mountFlags: readonly string[];
  readonly accessMode: AccessMode;
}

/** StorageClass parameters, parsed (docs/parameters.md). */
export interface VolumeSettings {
  readonly pool: string | undefined;
  readonly provisioning: 'thin' | 'thick';
  readonly mkfsOptions: readonly string[];
  /** If undefined, a copy gets the sector size of its source, and any other volume 4096. */
  readonly sectorSize: SectorSize | undefined;
  readonly trim: TrimMode;
  readonly directIo: boolean;
  readonly limits: IoLimits;
}

export type TrimMode = 'periodic' | 'online' | 'off';

/** Changes of the parameters that a VolumeAttributesClass may set. What is absent keeps its value. */
export interface MutableSettings {
  readonly trim?: TrimMode;
  readonly limits: Partial<IoLimits>;
}

export interface ModifyInput {
  readonly volumeId: string;
  readonly settings: MutableSettings;
}

export interface VolumeSource {
  readonly kind: 'snapshot' | 'volume';
  readonly id: string;
}

export interface CreateVolumeInput {
  readonly name: string;
  readonly range: CapacityRange;
  readonly kind: VolumeKind;
  /** null for a block volume; the configured default if the request names none. */
  readonly fsType: FsType | null;
  readonly settings: VolumeSettings;
  /** As received, to be written to the record. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly source: VolumeSource | null;
  /** Node ids that occur in the request; only used to name another node in a message. */
  readonly mentionedNodeIds?: readonly string[];
  /** The source on another node, if this node may read it there. */
  readonly remote?: RemoteSource | undefined;
  /** Whether the request names no filesystem. A copy then has the filesystem of its source, whatever `fsType` is. */
  readonly isFsTypeUnset?: boolean;
  /**
   * The mount flags of all capabilities, checked here rather than at the first mount. They are not recorded, since each mount has
   * its own.
   */
  readonly mountFlags?: readonly string[];
  readonly mountOptions?: readonly string[];
}

/** The Kubernetes objects for which a volume was created. A name that is not known is ''. */
export interface VolumeOwner {
  readonly namespace: string;
  /** '' for an inline volume. */
  readonly claim: string;
  readonly persistentVolume: string;
  /** The pod that declares an inline volume; '' for other volumes. */
  readonly pod: string;
}

/** The Kubernetes objects for which a snapshot was taken. A name that is not known is ''. */
export interface SnapshotOwner {
  readonly namespace: string;
  /** '' for a member of a group, because its VolumeSnapshot is created after it. */
  readonly volumeSnapshot: string;
  readonly volumeSnapshotContent: string;
  readonly volumeGroupSnapshot: string;
}

/** A pod for which a volume is published. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** A volume, with the name of its pool. */
export interface Volume {
  readonly record: VolumeRecord;
  readonly pool: string;
}

export interface Snapshot {
  readonly record: SnapshotRecord;
  readonly pool: string;
}

/** Parameters of a snapshot class, parsed. */
export interface SnapshotSettings {
  /** Whether a filesystem in use may be frozen while it is copied, if its pool has no reflink. */
  readonly freeze: boolean;
}

export interface CreateSnapshotInput {
  readonly name: string;
  readonly sourceVolumeId: string;
  readonly settings: SnapshotSettings;
  /** As received, to be written to the record. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface CreateGroupSnapshotInput {
  readonly name: string;
  readonly sourceVolumeIds: readonly string[];
  readonly settings: SnapshotSettings;
  readonly parameters: Readonly<Record<string, string>>;
}

export interface GroupSnapshot {
  readonly record: GroupRecord;
  /** The members on this node. The record has those on others. */
  readonly snapshots: readonly Snapshot[];
}

/** The part of a group snapshot over several nodes that is on this node, as the controller asks for it. */
export interface GroupPartInput extends CreateGroupSnapshotInput {
  readonly groupId: string;
  /** Identifies this attempt to take the group. */
  readonly attempt: string;
  /** The volumes of the whole group, on the node that keeps its record; undefined on the others. */
  readonly groupVolumeIds: readonly string[] | undefined;
}

/** The controller lets each part of a group advance by these steps, all parts at the same time. */
export type GroupStep =
  | { readonly kind: 'flush' | 'freeze' | 'cut' | 'thaw' }
  /** Makes the members durable, on a node without the record of the group. */
  | { readonly kind: 'prepare'; readonly createdAtMs: number }
  /** Writes the record of the group, which is the commit. */
  | {
      readonly kind: 'commit';
      readonly createdAtMs: number;
      readonly frozenMs: number;
      readonly elsewhere: readonly MemberElsewhere[];
    };

/** What a step has done. */
export interface GroupStepResult {
  /** Of `thaw`: for how long filesystems of this node were frozen. */
  readonly frozenMs?: number;
  /** Of `prepare` and `commit`: the members on this node. */
  readonly members?: readonly SnapshotRecord[];
}

/** What a node says before the first step. */
export type GroupPartStart =
  | {
      readonly kind: 'planned';
      /** Block volumes in use, which cannot be frozen. */
      readonly liveVolumeIds: readonly string[];
    }
  /** The group exists, of this attempt. */
  | { readonly kind: 'existing'; readonly record: GroupRecord };

/** Whether a group exists on the node that keeps its record, and the attempt that took it. */
export type GroupState =
  | { readonly kind: 'exists'; readonly attempt: string }
  | { readonly kind: 'running' | 'none' };

export interface SnapshotFilter {
  /** undefined: snapshots of all volumes. */
  readonly sourceVolumeId?: string | undefined;
  readonly snapshotId?: string | undefined;
  readonly pool?: string | undefined;
}

/** The progress of a snapshot's copy. */
export interface SnapshotProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
  readonly ready: boolean;
  /** Why the copy failed and the snapshot was removed; '' if it did not fail. */
  readonly error: string;
}

/** A byte range of a volume. Offset and length are multiples of `metadataBlockBytes`, except at the end of the volume. */
export interface BlockRange {
  readonly offset: bigint;
  readonly length: bigint;
}

/** Bytes of an image at an offset. What lies between two pieces is a hole. */
export interface Piece {
  readonly offset: bigint;
  /** Valid until the second piece after this one is asked for: then its memory is used again. */
  readonly data: Buffer;
  /** The digest of all pieces up to and including this one. */
  readonly digest: Buffer;
}

/** Follows the last piece. */
export interface End {
  /** The size of the image. */
  readonly sizeBytes: bigint;
  /** The digest of all pieces. */
  readonly digest: Buffer;
}

/** A source, and the name of the volume that is made of it. */
export interface SentCopy {
  readonly source: VolumeSource;
  readonly copyName: string;
}

/** What a new volume has to know about its source before the data is read. */
export interface SourceFacts {
  /** Identifies the data: if it has changed, or is that of a later snapshot with the same id, it has another state. */
  readonly state: string;
  readonly kind: VolumeKind;
  /** The filesystem in the image, also of a raw block volume; null if there is none. */
  readonly fsType: FsType | null;
  readonly sectorSize: SectorSize;
  readonly provisioning: SnapshotRecord['provisioning'];
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
  readonly growthLimit: Pick<GrowthLimit, 'factor' | 'maxBytes'> | undefined;
}

export interface DescribeOptions {
  /** The state of an interrupted copy that can go on; undefined if the copy begins, so that a volume is captured anew. */
  readonly state: string | undefined;
}

/** Where a reading begins. */
export interface ReadPosition {
  readonly offset: bigint;
  /** The digest of the pieces before the offset. */
  readonly digest: Buffer;
}

/** A snapshot or volume on another node, which that node lets this one read. */
export interface RemoteSource {
  /** The id of the other node, for messages. */
  readonly nodeId: string;
  /** Throws `not-found`, `busy`, `wrong-state` for a damaged snapshot or a volume that cannot be captured, and SourceLostError. */
  describe(signal: AbortSignal, options: DescribeOptions): Promise<SourceFacts>;
  /** The pieces from that position on, and their end. Throws as `describe`, and `wrong-state` if the data has another state. */
  read(state: string, from: ReadPosition, signal: AbortSignal): AsyncIterable<Piece | End>;
}

/** A copy between this node and another one that has not ended. */
export interface RunningCopy {
  /** Whether this node makes the copy, or the other one. */
  readonly direction: 'receive' | 'send';
  readonly source: VolumeSource;
  /** The name of the volume that is made. */
  readonly copyName: string;
  /** The id of the node that has the source; of a node that reads from this one, the address. */
  readonly peer: string;
  /** Whether it waits for its turn, or for the description of its source. */
  readonly isWaiting: boolean;
  /** Where it is in the image, whose holes are not sent. */
  readonly doneBytes: bigint;
  /** 0 while it is not known. */
  readonly totalBytes: bigint;
}

/** The other node does not answer, or its answer ended early. What was received remains of use. */
export class SourceLostError extends VolumeError {
  constructor(message: string, options?: ErrorOptions) {
    super('unavailable', message, options);
    this.name = 'SourceLostError';
  }
}

/** Ranges of a snapshot, in ascending order and without overlap. They are read while the caller iterates over them. */
export interface BlockRanges {
  /** Size of the volume when the snapshot was taken. */
  readonly volumeBytes: bigint;
  /** Batches of bounded size. Throws if the ranges cannot be read completely. */
  readonly batches: AsyncIterable<readonly BlockRange[]>;
}

export interface StageInput {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly capability: Capability;
}

export interface PublishInput {
  readonly volumeId: string;
  /** '' if the request has none. */
  readonly stagingTargetPath: string;
  readonly targetPath: string;
  readonly capability: Capability;
  readonly readOnly: boolean;
  /** Absent if the request names none. */
  readonly pod?: Pod;
  /** Allows a mount over a directory that contains files, as mount(8) does. The unpublish must then not remove the directory. */
  readonly allowNonEmptyTarget?: boolean;
  /** Present for an inline volume. The CSI spec does not define inline volumes; Kubernetes marks them in the volume context. */
  readonly ephemeral?: {
    readonly sizeBytes: bigint | undefined;
    readonly settings: VolumeSettings;
  };
}

export interface ExpandInput {
  readonly volumeId: string;
  readonly range: CapacityRange;
  /** Absent if the request has none. */
  readonly capability?: Capability;
}

export interface Expansion {
  readonly sizeBytes: bigint;
  /**
   * What still has the old size: nothing, the device or filesystem of a staged volume, which NodeExpandVolume grows, or the
   * filesystem of an unused volume, which its next stage grows.
   */
  readonly remaining: 'none' | 'node-expand' | 'next-stage';
}

export interface NodeExpandInput extends ExpandInput {
  readonly volumePath: string;
}

export interface VolumeStats {
  readonly kind: VolumeKind;
  readonly totalBytes: bigint;
  /** This and the following fields are reported only for kind `mount`. */
  readonly usedBytes: bigint;
  readonly availableBytes: bigint;
  readonly totalInodes: bigint;
  readonly usedInodes: bigint;
  readonly availableInodes: bigint;
}

/** One entry of the CSI message VolumeHealth: a status, a CamelCase reason, and a message for an operator. */
export interface VolumeCondition {
  readonly status: 'DEGRADED' | 'INACCESSIBLE' | 'DATA_LOSS';
  readonly reason: string;
  readonly message: string;
}

/** The conditions of one volume; its record may be unreadable. */
export interface VolumeHealth {
  readonly volumeId: string;
  readonly conditions: readonly VolumeCondition[];
}

export interface StorageCondition {
  readonly pool: string;
  readonly status: 'STORAGE_DEGRADED' | 'STORAGE_UNREACHABLE';
  readonly reason: string;
  readonly message: string;
}

export interface PoolCapacity {
  /** Bytes that can still be promised, never negative. */
  readonly availableBytes: bigint;
  readonly maximumVolumeBytes: bigint;
  readonly minimumVolumeBytes: bigint;
}

export interface Page<T> {
  readonly entries: readonly T[];
  /** '' on the last page. */
  readonly nextToken: string;
}
