/**
 * The inputs and results of the domain, in the terms of the CSI spec but without the types of a front: rpc/, docker/ and cli/
 * translate their own. The fronts have validated the form of all inputs. The domain checks what depends on a volume.
 */
import type { FsType, SectorSize } from '../host/host.ts';
import type { GroupRecord, SnapshotRecord, VolumeRecord } from '../state/records.ts';
import type { CapacityRange } from './capacity.ts';

/** Part of a message. The command line replaces it with its own flag. */
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
  /** '' if the request does not name one, and always for block. */
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
  readonly trim: 'periodic' | 'online' | 'off';
  readonly directIo: boolean;
}

export interface VolumeSource {
  readonly kind: 'snapshot' | 'volume';
  readonly id: string;
}

export interface CreateVolumeInput {
  readonly name: string;
  readonly range: CapacityRange;
  readonly kind: VolumeKind;
  /** null for block; the configured default if the request does not name one. */
  readonly fsType: FsType | null;
  readonly settings: VolumeSettings;
  /** As received, for the record. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly source: VolumeSource | null;
  /** Ids of nodes in the request, used only to name another node in a message. */
  readonly mentionedNodeIds?: readonly string[];
  /** The request does not name a filesystem: a copy then has that of its source, whatever `fsType` is. */
  readonly isFsTypeUnset?: boolean;
  /** The flags of all capabilities, checked now rather than at the first mount. They are not kept, since each mount has its own. */
  readonly mountFlags?: readonly string[];
  readonly mountOptions?: readonly string[];
}

/** A volume in its present state. */
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
  /** Without reflink: a filesystem in use may be frozen while it is copied. */
  readonly freeze: boolean;
}

export interface CreateSnapshotInput {
  readonly name: string;
  readonly sourceVolumeId: string;
  readonly settings: SnapshotSettings;
  /** As received, for the record. */
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
  readonly snapshots: readonly Snapshot[];
}

export interface SnapshotFilter {
  /** Only snapshots of this volume; undefined: of all volumes. */
  readonly sourceVolumeId?: string | undefined;
  readonly snapshotId?: string | undefined;
  readonly pool?: string | undefined;
}

/** The progress of a snapshot's copy. */
export interface SnapshotProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
  readonly ready: boolean;
  /** The reason for which it failed and was removed; '' otherwise. */
  readonly error: string;
}

/** A range of a volume in bytes. Both are multiples of `metadataBlockBytes`, except at the end of the volume. */
export interface BlockRange {
  readonly offset: bigint;
  readonly length: bigint;
}

/** Ranges of a snapshot, ascending and without overlap, which are read as the caller takes them. */
export interface BlockRanges {
  /** Size of the volume in the snapshot. */
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
  /** Allow a mount over a directory with files, as mount(8) does, if unpublish does not remove that directory. */
  readonly allowNonEmptyTarget?: boolean;
  /** Present for an inline volume. They are not part of the CSI spec; Kubernetes marks them in the volume context. */
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

export interface NodeExpandInput extends ExpandInput {
  readonly volumePath: string;
}

export interface VolumeStats {
  readonly kind: VolumeKind;
  readonly totalBytes: bigint;
  /** The following are reported only for kind `mount`. */
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
