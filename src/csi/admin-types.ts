// Generated from csi-proto/loopcsi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ServerStream, Unary } from './rpc-kinds.ts';

/** An enum value this interface does not name, from a newer caller. Refuse it before switching. */
export type UnknownEnumValue = number;

/** The services of loopcsi.v1, by their full names. */
export interface LoopcsiServices {
  readonly 'loopcsi.v1.Admin': AdminService;
}

/** Calls answer NOT_FOUND for a name or id that is not known, INVALID_ARGUMENT for a request that can never do, and the codes of CSI's error scheme for the rest. */
export interface AdminService {
  /** Every configured pool, also those that cannot be served now. */
  readonly ListPools: Unary<ListPoolsRequest, ListPoolsResponse>;
  /** Makes a directory a pool of this node: writes its marker. A configured one is served from then on; another once it is configured. One that is this node's pool already is a success. */
  readonly InitPool: Unary<InitPoolRequest, InitPoolResponse>;
  /** Takes over a configured pool that another node, or another disk at this path, stood for. Its volumes get ids of this node; FAILED_PRECONDITION when one of them is attached. */
  readonly AdoptPool: Unary<AdoptPoolRequest, AdoptPoolResponse>;
  /** Gives up a pool that was seen at a directory and is lost, so that a new one may be made there. FAILED_PRECONDITION while it is there, is served, or has images that are attached. */
  readonly ForgetPool: Unary<ForgetPoolRequest, ForgetPoolResponse>;
  /** Writes the lost marker of a pool whose volumes are there. FAILED_PRECONDITION when it is not lost, or nothing is there. */
  readonly RecoverPool: Unary<RecoverPoolRequest, RecoverPoolResponse>;
  /** Grows the image of a pool with an embedded filesystem. OUT_OF_RANGE when it would shrink. */
  readonly GrowPool: Unary<GrowPoolRequest, GrowPoolResponse>;
  /** Volumes as records and kernel tell, in pages, ordered by id. A bad token is ABORTED, as in CSI. */
  readonly ListVolumes: Unary<ListVolumesRequest, ListVolumesResponse>;
  /** One volume, by its id or its name. */
  readonly GetVolume: Unary<GetVolumeRequest, GetVolumeResponse>;
  /** Stages a volume in the driver's own directory and publishes it at a path; repeated, a success. */
  readonly MountVolume: Unary<MountVolumeRequest, MountVolumeResponse>;
  /** Undoes MountVolume, at one path or at all of them; unstages after the last. Nothing mounted is a success. */
  readonly UnmountVolume: Unary<UnmountVolumeRequest, UnmountVolumeResponse>;
  /** Grows image, loop device and filesystem, in use or not, before it answers. Already that large is a success. */
  readonly ExpandVolume: Unary<ExpandVolumeRequest, ExpandVolumeResponse>;
  /** Snapshots with what CSI leaves out, in pages, ordered by id. */
  readonly ListSnapshots: Unary<ListSnapshotsRequest, ListSnapshotsResponse>;
  /** One snapshot, by its id or its name. */
  readonly GetSnapshot: Unary<GetSnapshotRequest, GetSnapshotResponse>;
  /** Progress of a snapshot's copy: one message at once, more while it moves, the last with `ready` or `error`. */
  readonly WatchSnapshot: ServerStream<WatchSnapshotRequest, WatchSnapshotResponse>;
  /** How far the copy for a volume or snapshot is that is being made now: while CreateVolume or CreateSnapshot runs. */
  readonly GetProgress: Unary<GetProgressRequest, GetProgressResponse>;
  /** Looks at kernel, programs, pools and leftovers, and says what to do about each finding. Changes nothing. */
  readonly Doctor: Unary<DoctorRequest, DoctorResponse>;
}

export type PoolState =
  | 'STATE_UNKNOWN'
  /** Volumes can be made and used. */
  | 'SERVED'
  /** Refused, see `reason`: the disk is not mounted, the marker is absent, or another node's. */
  | 'UNAVAILABLE';

export type VolumeKind =
  | 'KIND_UNKNOWN'
  | 'MOUNT'
  | 'BLOCK';

export type VolumeProvisioning =
  | 'PROVISIONING_UNKNOWN'
  /** Blocks are allocated when they are written. */
  | 'THIN'
  /** All blocks are allocated from the start. */
  | 'THICK';

export type ProblemStatus =
  | 'STATUS_UNKNOWN'
  | 'DEGRADED'
  | 'INACCESSIBLE'
  | 'DATA_LOSS';

export type CheckState =
  | 'STATE_UNKNOWN'
  | 'OK'
  /** Works, but somebody should know. */
  | 'WARN'
  /** Something will not work. */
  | 'FAIL';

export type ListPoolsRequest = Readonly<Record<string, never>>;

export interface ListPoolsResponse {
  /** Ordered by name. */
  readonly pools: readonly Pool[];
}

export interface Pool {
  /** As configured. */
  readonly name: string;
  /** Absolute directory. */
  readonly path: string;
  readonly state: PoolState | UnknownEnumValue;
  /** Why it is unavailable and what to do; empty when served. */
  readonly reason: string;
  /** The directory's filesystem, `ext4` for example; empty when not known. */
  readonly fs_type: string;
  /** What was probed at start. */
  readonly abilities: PoolAbilities | null;
  /** Size of the filesystem the pool lies on. */
  readonly total_bytes: bigint;
  /** What that filesystem has free. */
  readonly free_bytes: bigint;
  /** Sum of the sizes of all volumes, and of what snapshots may come to need. */
  readonly promised_bytes: bigint;
  /** What may still be promised; GetCapacity answers the same. */
  readonly room_bytes: bigint;
  /** What images of volumes and snapshots really occupy. */
  readonly allocated_bytes: bigint;
  /** What deleted images still occupy. */
  readonly trash_bytes: bigint;
  readonly volume_count: number;
  readonly snapshot_count: number;
  /** 8 hex digits at the end of every id of this pool. */
  readonly node_tag: string;
  /** Written once, into the marker. */
  readonly uuid: string;
  /** How many times the room is promised; 1 promises nothing twice. */
  readonly overcommit: number;
  /** Kept free for others. */
  readonly reserve_bytes: bigint;
  /** The pool lies in an XFS image of its own inside `path`, so that it can reflink. */
  readonly embedded: boolean;
}

/** What a pool's filesystem can do. */
export interface PoolAbilities {
  /** Copies that share blocks. */
  readonly reflink: boolean;
  /** Loop devices that bypass the page cache. */
  readonly direct_io: boolean;
  /** Freed blocks of a volume are given back. */
  readonly discard: boolean;
}

export interface InitPoolRequest {
  /** Required. */
  readonly name: string;
  /** Absolute. For a configured pool it may be empty and must else be the configured path; required for any other. */
  readonly path: string;
  /** More than 0: make an XFS image of that size in the directory and let the pool lie in it. */
  readonly embedded_size_bytes: bigint;
  /** Also on a filesystem that is refused otherwise: overlayfs, tmpfs. */
  readonly force: boolean;
}

export interface InitPoolResponse {
  /** As it stands now; UNAVAILABLE with the reason when the driver is not configured to serve it. */
  readonly pool: Pool | null;
  /** Whether the marker was there already. */
  readonly existed: boolean;
}

export interface AdoptPoolRequest {
  /** A configured pool. Required. */
  readonly name: string;
}

export interface AdoptPoolResponse {
  readonly pool: Pool | null;
}

export interface ForgetPoolRequest {
  /** Required. */
  readonly name: string;
  /** Absolute. For a configured pool it may be empty and must else be the configured path; required for any other. */
  readonly path: string;
  /** What is to be forgotten, as an earlier answer has told it. Empty: nothing is forgotten, the answer tells what would be. */
  readonly uuid: string;
}

export interface ForgetPoolResponse {
  readonly path: string;
  readonly uuid: string;
  /** Volumes that were known of it. */
  readonly volume_ids: readonly string[];
}

export interface RecoverPoolRequest {
  /** A configured pool. Required. */
  readonly name: string;
}

export interface RecoverPoolResponse {
  readonly pool: Pool | null;
}

export interface GrowPoolRequest {
  /** A configured pool with an embedded filesystem. Required. */
  readonly name: string;
  /** New size of its image. Required. */
  readonly size_bytes: bigint;
}

export interface GrowPoolResponse {
  readonly pool: Pool | null;
}

export interface ListVolumesRequest {
  /** Most entries of one page; 0 means no bound. */
  readonly max_entries: number;
  /** `next_token` of the page before; empty starts. */
  readonly starting_token: string;
  /** Only volumes of this pool; empty means all. */
  readonly pool: string;
}

export interface ListVolumesResponse {
  readonly volumes: readonly Volume[];
  /** Empty on the last page. */
  readonly next_token: string;
}

export interface GetVolumeRequest {
  /** Id or name. Required. */
  readonly volume_id: string;
}

export interface GetVolumeResponse {
  readonly volume: Volume | null;
}

export type Volume = {
  readonly volume_id: string;
  /** The name it was made under. */
  readonly name: string;
  readonly pool: string;
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  readonly size_bytes: bigint;
  /** What the image really occupies. */
  readonly allocated_bytes: bigint;
  readonly provisioning: VolumeProvisioning | UnknownEnumValue;
  /** 4096 or 512. */
  readonly sector_size: number;
  readonly created_at: Timestamp | null;
  /** Where it is staged now, as the kernel tells. */
  readonly staged_at: readonly string[];
  /** Where it is published now. */
  readonly published_at: readonly string[];
  /** `/dev/loopN`; empty when none is attached. */
  readonly loop_device: string;
  /** Whether that device bypasses the page cache. */
  readonly direct_io: boolean;
  /** An inline volume, which goes with its pod. */
  readonly ephemeral: boolean;
  /** Empty: healthy. */
  readonly problems: readonly Problem[];
  /** UUID of the filesystem as it was made; empty for a block volume. */
  readonly fs_uuid: string;
  /** The image, for people; it is the driver's to touch. */
  readonly image_path: string;
} & (
  | {
      readonly source: 'source_snapshot_id';
      readonly source_snapshot_id: string;
      readonly source_volume_id?: never;
    }
  | {
      readonly source: 'source_volume_id';
      readonly source_volume_id: string;
      readonly source_snapshot_id?: never;
    }
  | {
      readonly source?: undefined;
      readonly source_snapshot_id?: never;
      readonly source_volume_id?: never;
    }
);

/** One thing that is wrong with a volume, as CSI's health calls tell it. */
export interface Problem {
  readonly status: ProblemStatus | UnknownEnumValue;
  /** One CamelCase word for machines. */
  readonly reason: string;
  /** A sentence for people. */
  readonly message: string;
}

export interface MountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Absolute; its last component is made by the driver. Required. */
  readonly target_path: string;
  readonly read_only: boolean;
  /** From the driver's allow-list, as in a StorageClass. */
  readonly mount_flags: readonly string[];
}

export type MountVolumeResponse = Readonly<Record<string, never>>;

export interface UnmountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Empty: everywhere MountVolume has published it. */
  readonly target_path: string;
}

export interface UnmountVolumeResponse {
  /** Where it was unmounted; empty when it was not mounted. */
  readonly target_paths: readonly string[];
}

export interface ExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Least new size; rounded up. Required. */
  readonly size_bytes: bigint;
}

export interface ExpandVolumeResponse {
  readonly volume: Volume | null;
  /** The filesystem takes the new size when the volume is mounted the next time. */
  readonly at_next_mount: boolean;
}

export interface ListSnapshotsRequest {
  /** Most entries of one page; 0 means no bound. */
  readonly max_entries: number;
  /** `next_token` of the page before; empty starts. */
  readonly starting_token: string;
  /** Only snapshots of this volume; empty means all. */
  readonly source_volume_id: string;
  /** Only snapshots of this pool; empty means all. */
  readonly pool: string;
}

export interface ListSnapshotsResponse {
  readonly snapshots: readonly Snapshot[];
  /** Empty on the last page. */
  readonly next_token: string;
}

export interface GetSnapshotRequest {
  /** Id or name. Required. */
  readonly snapshot_id: string;
}

export interface GetSnapshotResponse {
  readonly snapshot: Snapshot | null;
}

export interface Snapshot {
  readonly snapshot_id: string;
  /** The name it was made under. */
  readonly name: string;
  /** Also when that volume is gone. */
  readonly source_volume_id: string;
  readonly pool: string;
  /** Least size of a volume restored from it. */
  readonly size_bytes: bigint;
  /** What the image really occupies, shared blocks included. */
  readonly allocated_bytes: bigint;
  /** The instant it shows. */
  readonly created_at: Timestamp | null;
  /** Whether volumes can be made from it now. */
  readonly ready: boolean;
  /** Copied so far; equal to `total_bytes` when ready. */
  readonly done_bytes: bigint;
  /** To copy in all. */
  readonly total_bytes: bigint;
  /** Empty when it was cut alone. */
  readonly group_snapshot_id: string;
  /** As its source was. */
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  /** How long its source stood still for the cut, in milliseconds. */
  readonly frozen_ms: bigint;
}

export interface WatchSnapshotRequest {
  /** Required. */
  readonly snapshot_id: string;
}

export interface WatchSnapshotResponse {
  readonly done_bytes: bigint;
  readonly total_bytes: bigint;
  /** The copy is complete; the stream ends. */
  readonly ready: boolean;
  /** Why the copy failed; the stream ends. Empty otherwise. */
  readonly error: string;
}

export interface GetProgressRequest {
  /** Name of the new volume, or of the new snapshot. One of them is required. */
  readonly volume_name: string;
  readonly snapshot_name: string;
}

export interface GetProgressResponse {
  /** Both 0 when nothing is being copied for it. */
  readonly done_bytes: bigint;
  readonly total_bytes: bigint;
}

export type DoctorRequest = Readonly<Record<string, never>>;

export interface DoctorResponse {
  readonly checks: readonly Check[];
}

/** One thing that was looked at. */
export interface Check {
  /** Kebab-case and stable: `loop-control`, `program:mkfs.xfs`, `pool:default`. */
  readonly name: string;
  readonly state: CheckState | UnknownEnumValue;
  /** What was found. */
  readonly message: string;
  /** What to do; empty when OK. */
  readonly remedy: string;
}

/** Seconds since 1970 and the nanoseconds of that second. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}
