// Generated from csi-proto/loopcsi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ServerStream, Unary } from './rpc-kinds.ts';

/** An enum value this interface does not name, from a newer caller. Refuse it before switching. */
export type UnknownEnumValue = number;

/** The services of loopcsi.v1, by their full names. */
export interface LoopcsiServices {
  readonly 'loopcsi.v1.Admin': AdminService;
}

/** Calls return NOT_FOUND for an unknown name or id, INVALID_ARGUMENT for a request that can never succeed, and otherwise the codes of CSI's error scheme. */
export interface AdminService {
  /** Lists every configured pool, including unavailable ones. */
  readonly ListPools: Unary<ListPoolsRequest, ListPoolsResponse>;
  /** Makes a directory a pool of this node by writing its marker. A configured pool is served from then on, any other once it is configured. Succeeds if it is this node's pool already. */
  readonly InitPool: Unary<InitPoolRequest, InitPoolResponse>;
  /** Takes over a configured pool that belonged to another node, or to another disk at this path. Its volumes get ids of this node. FAILED_PRECONDITION if one of them is attached. */
  readonly AdoptPool: Unary<AdoptPoolRequest, AdoptPoolResponse>;
  /** Gives up a lost pool that was seen at a directory, so that a new pool can be made there. FAILED_PRECONDITION while the pool exists, is served, or has attached images. */
  readonly ForgetPool: Unary<ForgetPoolRequest, ForgetPoolResponse>;
  /** Rewrites the lost marker of a pool that still has its volumes. FAILED_PRECONDITION if the marker exists or there are none. */
  readonly RecoverPool: Unary<RecoverPoolRequest, RecoverPoolResponse>;
  /** Grows the image of an embedded pool. OUT_OF_RANGE if it would shrink. */
  readonly GrowPool: Unary<GrowPoolRequest, GrowPoolResponse>;
  /** Lists volumes, in pages, ordered by id. A bad token is ABORTED, as in CSI. */
  readonly ListVolumes: Unary<ListVolumesRequest, ListVolumesResponse>;
  /** Returns one volume, by its id or its name. */
  readonly GetVolume: Unary<GetVolumeRequest, GetVolumeResponse>;
  /** Stages a volume below the driver's mount directory and publishes it at a path. A repeated call succeeds. */
  readonly MountVolume: Unary<MountVolumeRequest, MountVolumeResponse>;
  /** Undoes MountVolume at one path or at all, and unstages after the last. Succeeds if nothing is mounted. */
  readonly UnmountVolume: Unary<UnmountVolumeRequest, UnmountVolumeResponse>;
  /** Grows image, loop device and filesystem, in use or not, before it returns. Succeeds if the volume is that large already. */
  readonly ExpandVolume: Unary<ExpandVolumeRequest, ExpandVolumeResponse>;
  /** Lists snapshots with the fields that CSI lacks, in pages, ordered by id. */
  readonly ListSnapshots: Unary<ListSnapshotsRequest, ListSnapshotsResponse>;
  /** Returns one snapshot, by its id or its name. */
  readonly GetSnapshot: Unary<GetSnapshotRequest, GetSnapshotResponse>;
  /** Streams the progress of a snapshot's copy: one message immediately, more as it advances, the last with `ready` or `error`. */
  readonly WatchSnapshot: ServerStream<WatchSnapshotRequest, WatchSnapshotResponse>;
  /** Returns the progress of the copy for a volume or snapshot while CreateVolume or CreateSnapshot runs. */
  readonly GetProgress: Unary<GetProgressRequest, GetProgressResponse>;
  /** Checks kernel, programs, pools and leftovers, and returns findings with what to do. Changes nothing. */
  readonly Doctor: Unary<DoctorRequest, DoctorResponse>;
}

export type PoolState =
  | 'STATE_UNKNOWN'
  /** Volumes can be created and used. */
  | 'SERVED'
  /** Not served, see `reason`: the disk is not mounted, or the marker is missing or belongs to another node. */
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
  /** Works, but should be examined. */
  | 'WARN'
  /** Something does not work. */
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
  /** Why it is unavailable and what to do; empty if it is served. */
  readonly reason: string;
  /** Type of the directory's filesystem, `ext4` for example; empty if unknown. */
  readonly fs_type: string;
  /** Probed when the pool was opened. */
  readonly abilities: PoolAbilities | null;
  /** Size of the pool's filesystem. */
  readonly total_bytes: bigint;
  /** Free space of that filesystem. */
  readonly free_bytes: bigint;
  /** Sum of the sizes of all volumes and of the space that snapshots may need. */
  readonly promised_bytes: bigint;
  /** Capacity: what may still be promised. GetCapacity returns the same. */
  readonly room_bytes: bigint;
  /** Space that the images of volumes and snapshots occupy. */
  readonly allocated_bytes: bigint;
  /** Space that deleted images still occupy. */
  readonly trash_bytes: bigint;
  readonly volume_count: number;
  readonly snapshot_count: number;
  /** 8 hex digits at the end of every id of this pool. */
  readonly node_tag: string;
  /** From the marker. */
  readonly uuid: string;
  /** Factor for the space that may be promised; 1 promises no byte twice. */
  readonly overcommit: number;
  /** Space that is never promised. */
  readonly reserve_bytes: bigint;
  /** Whether the pool is in an XFS image of its own inside `path`, so that it supports reflinks. */
  readonly embedded: boolean;
}

/** Abilities of a pool's filesystem. */
export interface PoolAbilities {
  /** Copies can share blocks (FICLONE). */
  readonly reflink: boolean;
  /** Loop devices can bypass the page cache (O_DIRECT). */
  readonly direct_io: boolean;
  /** Blocks that a volume frees return to the filesystem (hole punching). */
  readonly discard: boolean;
}

export interface InitPoolRequest {
  /** Required. */
  readonly name: string;
  /** Absolute path. For a configured pool it must be empty or the configured path; required for any other. */
  readonly path: string;
  /** If more than 0, an XFS image of that size is made in the directory, and the pool is in it. */
  readonly embedded_size_bytes: bigint;
  /** Accept a filesystem that is refused otherwise: overlayfs or tmpfs. */
  readonly force: boolean;
}

export interface InitPoolResponse {
  /** Its current state; UNAVAILABLE with the reason if the driver is not configured to serve it. */
  readonly pool: Pool | null;
  /** Whether the marker existed already. */
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
  /** Absolute path. For a configured pool it must be empty or the configured path; required for any other. */
  readonly path: string;
  /** Uuid of the pool to forget, as an earlier response returned it. If empty, nothing is forgotten and the response says what would be. */
  readonly uuid: string;
}

export interface ForgetPoolResponse {
  readonly path: string;
  readonly uuid: string;
  /** Volumes that were known in it. */
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
  /** A configured embedded pool. Required. */
  readonly name: string;
  /** New size of its image. Required. */
  readonly size_bytes: bigint;
}

export interface GrowPoolResponse {
  readonly pool: Pool | null;
}

export interface ListVolumesRequest {
  /** Maximum number of entries per page; 0 means no limit. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
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
  /** The name in the request that created it. */
  readonly name: string;
  readonly pool: string;
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  readonly size_bytes: bigint;
  /** Space that the image occupies. */
  readonly allocated_bytes: bigint;
  readonly provisioning: VolumeProvisioning | UnknownEnumValue;
  /** 4096 or 512. */
  readonly sector_size: number;
  readonly created_at: Timestamp | null;
  /** Current staging paths, from the kernel's mount table. */
  readonly staged_at: readonly string[];
  /** Current target paths. */
  readonly published_at: readonly string[];
  /** `/dev/loopN`; empty if not attached. */
  readonly loop_device: string;
  /** Whether that device bypasses the page cache. */
  readonly direct_io: boolean;
  /** Whether it is an inline volume, which is deleted with its pod. */
  readonly ephemeral: boolean;
  /** Empty if healthy. */
  readonly problems: readonly Problem[];
  /** UUID that the filesystem got when it was made; empty for a block volume. */
  readonly fs_uuid: string;
  /** Path of the image, for information: only the driver may change it. */
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

/** A problem of a volume, as the health calls of CSI return it. */
export interface Problem {
  readonly status: ProblemStatus | UnknownEnumValue;
  /** A CamelCase word for programs. */
  readonly reason: string;
  /** A sentence for the operator. */
  readonly message: string;
}

export interface MountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Absolute path; the driver creates its last component. Required. */
  readonly target_path: string;
  readonly read_only: boolean;
  /** Mount options; the same are allowed as in a StorageClass. */
  readonly mount_flags: readonly string[];
}

export type MountVolumeResponse = Readonly<Record<string, never>>;

export interface UnmountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** If empty, all paths where MountVolume published it. */
  readonly target_path: string;
}

export interface UnmountVolumeResponse {
  /** The paths that were unmounted; empty if it was not mounted. */
  readonly target_paths: readonly string[];
}

export interface ExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Minimum new size; it is rounded up. Required. */
  readonly size_bytes: bigint;
}

export interface ExpandVolumeResponse {
  readonly volume: Volume | null;
  /** Whether the filesystem grows only when the volume is mounted the next time. */
  readonly at_next_mount: boolean;
}

export interface ListSnapshotsRequest {
  /** Maximum number of entries per page; 0 means no limit. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
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
  /** The name in the request that created it. */
  readonly name: string;
  /** Set even if that volume has been deleted. */
  readonly source_volume_id: string;
  readonly pool: string;
  /** Minimum size of a volume restored from it. */
  readonly size_bytes: bigint;
  /** Space that the image occupies, including shared blocks. */
  readonly allocated_bytes: bigint;
  /** The point in time of its content. */
  readonly created_at: Timestamp | null;
  /** Whether volumes can be created from it now. */
  readonly ready: boolean;
  /** Bytes copied so far; equal to `total_bytes` when ready. */
  readonly done_bytes: bigint;
  /** Bytes to copy in total. */
  readonly total_bytes: bigint;
  /** Empty if it is not a member of a group. */
  readonly group_snapshot_id: string;
  /** The kind of its source. */
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  /** Milliseconds for which its source was frozen. */
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
  /** The error of a failed copy; the stream ends. Empty otherwise. */
  readonly error: string;
}

export interface GetProgressRequest {
  /** Name of the new volume or of the new snapshot. One of them is required. */
  readonly volume_name: string;
  readonly snapshot_name: string;
}

export interface GetProgressResponse {
  /** Both are 0 if nothing is being copied. */
  readonly done_bytes: bigint;
  readonly total_bytes: bigint;
}

export type DoctorRequest = Readonly<Record<string, never>>;

export interface DoctorResponse {
  readonly checks: readonly Check[];
}

/** The result of one check. */
export interface Check {
  /** Kebab-case and stable: `loop-control`, `program:mkfs.xfs`, `pool:default`. */
  readonly name: string;
  readonly state: CheckState | UnknownEnumValue;
  /** The finding. */
  readonly message: string;
  /** What to do; empty if OK. */
  readonly remedy: string;
}

/** Seconds since 1970 and the nanoseconds of that second. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}
