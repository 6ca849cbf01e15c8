/**
 * The inputs and answers of the domain, in the spec's words but without any front's types: rpc/, docker/ and cli/ translate
 * into these. All inputs are validated as far as their form goes; what depends on a volume is checked here.
 */
import type { FsType, SectorSize } from '../host/host.ts';
import type { GroupRecord, SnapshotRecord, VolumeRecord } from '../state/records.ts';
import type { CapacityRange } from './capacity.ts';

/** Part of a message; the command line replaces it by its own flag. */
export const freezeAdvice = "snapshot class parameter freeze: 'yes'; then restore that snapshot";

export type VolumeKind = 'mount' | 'block';

/** Access modes this driver serves (CSI spec, "VolumeCapability.AccessMode"); others are refused by the front. */
export const accessModes = [
  'SINGLE_NODE_WRITER',
  'SINGLE_NODE_READER_ONLY',
  'SINGLE_NODE_SINGLE_WRITER',
  'SINGLE_NODE_MULTI_WRITER',
  'MULTI_NODE_READER_ONLY',
] as const;
export type AccessMode = (typeof accessModes)[number];

/** One capability as a request states it. */
export interface Capability {
  readonly kind: VolumeKind;
  /** '' when the request leaves it open; always '' for block. */
  readonly fsType: FsType | '';
  readonly mountFlags: readonly string[];
  readonly accessMode: AccessMode;
}

/** StorageClass parameters, parsed (docs/parameters.md). */
export interface VolumeSettings {
  readonly pool: string | undefined;
  readonly provisioning: 'thin' | 'thick';
  readonly mkfsOptions: readonly string[];
  /** undefined when left open: a copy has its source's then, any other volume 4096. */
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
  /** null for block; the configured default where the request leaves it open. */
  readonly fsType: FsType | null;
  readonly settings: VolumeSettings;
  /** As they came, for the record. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly source: VolumeSource | null;
  /** Ids of nodes that the request mentions, so that an answer about another node can name it. They decide nothing. */
  readonly mentionedNodeIds?: readonly string[];
  /** The request leaves the filesystem open: a copy then has its source's, whatever `fsType` says. */
  readonly fsTypeIsOpen?: boolean;
  /** Of all capabilities: checked now rather than at the first mount, and not kept, since a mount brings its own. */
  readonly mountFlags?: readonly string[];
  readonly mountOptions?: readonly string[];
}

/** A volume as it stands. */
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
  /** Without reflink: a filesystem in use may stand still while it is copied. */
  readonly freeze: boolean;
}

export interface CreateSnapshotInput {
  readonly name: string;
  readonly sourceVolumeId: string;
  readonly settings: SnapshotSettings;
  /** As they came, for the record. */
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
  /** Only snapshots of this volume; undefined: of all. */
  readonly sourceVolumeId?: string | undefined;
  readonly snapshotId?: string | undefined;
  readonly pool?: string | undefined;
}

/** How far the copy of a snapshot is. */
export interface SnapshotProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
  readonly ready: boolean;
  /** Why it failed and was removed; '' otherwise. */
  readonly error: string;
}

/** A range of a volume, in bytes; both are multiples of `metadataBlockBytes` but for the end of the volume. */
export interface BlockRange {
  readonly offset: bigint;
  readonly length: bigint;
}

/** Ranges of a snapshot, in ascending order and without overlap, read as fast as they are taken. */
export interface BlockRanges {
  /** Size of the volume as the snapshot shows it. */
  readonly volumeBytes: bigint;
  /** Batches of bounded size. Throws when the answer cannot be completed. */
  readonly batches: AsyncIterable<readonly BlockRange[]>;
}

export interface StageInput {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly capability: Capability;
}

export interface PublishInput {
  readonly volumeId: string;
  /** '' when the request has none. */
  readonly stagingTargetPath: string;
  readonly targetPath: string;
  readonly capability: Capability;
  readonly readOnly: boolean;
  /** Allow a mount over a directory with files, as mount(8) does, if unpublish does not remove that directory. */
  readonly allowNonEmptyTarget?: boolean;
  /** Present for an inline ephemeral volume (CSI spec has none; Kubernetes sets it in the volume context). */
  readonly ephemeral?: {
    readonly sizeBytes: bigint | undefined;
    readonly settings: VolumeSettings;
  };
}

export interface ExpandInput {
  readonly volumeId: string;
  readonly range: CapacityRange;
  /** Absent when the request has none. */
  readonly capability?: Capability;
}

export interface NodeExpandInput extends ExpandInput {
  readonly volumePath: string;
}

export interface VolumeStats {
  readonly kind: VolumeKind;
  readonly totalBytes: bigint;
  /** The rest only for kind `mount`. */
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
  /** '' at the end. */
  readonly nextToken: string;
}
