// Generated from csi-proto/loopcsi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ClientStream, ServerStream, Unary } from './rpc-kinds.ts';

/** Number of an enum value that this version does not know, from a newer caller. Reject it before switching on the name. */
export type UnknownEnumValue = number;

/** The services of loopcsi.v1, by their full names. */
export interface LoopcsiServices {
  readonly 'loopcsi.v1.Admin': AdminService;
  readonly 'loopcsi.v1.Nodes': NodesService;
}

/** Administration of a running driver. An unknown name or id is NOT_FOUND, and a request that can never succeed is INVALID_ARGUMENT; other errors use the codes of CSI's error scheme. */
export interface AdminService {
  /** Lists every configured pool, including unavailable ones. */
  readonly ListPools: Unary<ListPoolsRequest, ListPoolsResponse>;
  /** Initialises a directory as a pool of this node by writing its marker. A configured pool is served immediately, any other once it is configured. Succeeds if the directory already is a pool of this node. */
  readonly InitPool: Unary<InitPoolRequest, InitPoolResponse>;
  /** Takes over a configured pool that belongs to another node, or whose directory contained another pool before. Its volumes get ids of this node. FAILED_PRECONDITION if one of them is attached. */
  readonly AdoptPool: Unary<AdoptPoolRequest, AdoptPoolResponse>;
  /** Forgets a lost pool, so that a new pool can be created in its directory. FAILED_PRECONDITION while the pool exists, is served, or has attached images. */
  readonly ForgetPool: Unary<ForgetPoolRequest, ForgetPoolResponse>;
  /** Recreates the lost marker of a pool that still contains volumes. FAILED_PRECONDITION if the marker exists, or if the pool contains no volumes. */
  readonly RecoverPool: Unary<RecoverPoolRequest, RecoverPoolResponse>;
  /** Grows the image of an embedded pool. OUT_OF_RANGE if the new size is smaller. */
  readonly GrowPool: Unary<GrowPoolRequest, GrowPoolResponse>;
  /** Lists volumes ordered by id, one page per call. ABORTED if the token is invalid, as in CSI. */
  readonly ListVolumes: Unary<ListVolumesRequest, ListVolumesResponse>;
  /** Looks up a volume by id, name or claim. INVALID_ARGUMENT if the claim has several volumes. */
  readonly GetVolume: Unary<GetVolumeRequest, GetVolumeResponse>;
  /** Stages a volume below the driver's mount directory and publishes it at a path. Succeeds if it is already mounted there. */
  readonly MountVolume: Unary<MountVolumeRequest, MountVolumeResponse>;
  /** Undoes MountVolume at one path or at all paths, and unstages the volume after the last one. Succeeds if it is not mounted. */
  readonly UnmountVolume: Unary<UnmountVolumeRequest, UnmountVolumeResponse>;
  /** Grows the image, loop device and filesystem of a volume, whether or not it is in use, before it returns. Succeeds if the volume is already that large; OUT_OF_RANGE if it is larger, since volumes cannot shrink. */
  readonly ExpandVolume: Unary<ExpandVolumeRequest, ExpandVolumeResponse>;
  /** Returns the blocks that the filesystem of a thin volume has freed to its pool (FITRIM). An unused volume is mounted privately for that. FAILED_PRECONDITION for a volume that cannot be trimmed. */
  readonly TrimVolume: Unary<TrimVolumeRequest, TrimVolumeResponse>;
  /** Creates a volume with the data of a directory or an image of this machine. Returns the volume if an equal call has created it. NOT_FOUND if the driver cannot see the path, FAILED_PRECONDITION if the source is in use, damaged, or changed during the copy, OUT_OF_RANGE if it does not fit into the size. */
  readonly ImportVolume: Unary<ImportVolumeRequest, ImportVolumeResponse>;
  /** Creates a volume with the data of an image that the caller sends: one message with `start`, any number with `data`, and a last one with `end`. ALREADY_EXISTS if a volume of that name exists. */
  readonly ImportStream: ClientStream<ImportStreamRequest, ImportVolumeResponse>;
  /** Streams the image of a volume or snapshot: one message with `start`, then its data in ascending order; ranges that are not sent contain zeros. A volume in use is captured first, like a snapshot. FAILED_PRECONDITION if that is impossible, or if `expected_state` is not the state of the data. */
  readonly ExportImage: ServerStream<ExportImageRequest, ExportImageResponse>;
  /** Lists snapshots ordered by id, one page per call, with fields that CSI lacks. */
  readonly ListSnapshots: Unary<ListSnapshotsRequest, ListSnapshotsResponse>;
  /** Looks up a snapshot by id, name or VolumeSnapshot. INVALID_ARGUMENT if the VolumeSnapshot has several snapshots. */
  readonly GetSnapshot: Unary<GetSnapshotRequest, GetSnapshotResponse>;
  /** Streams the progress of a snapshot's copy: one message immediately, further messages as the copy advances, and a last one with `ready` or `error`. */
  readonly WatchSnapshot: ServerStream<WatchSnapshotRequest, WatchSnapshotResponse>;
  /** Returns the progress of the copy for a volume or snapshot that is being created. */
  readonly GetProgress: Unary<GetProgressRequest, GetProgressResponse>;
  /** Lists the copies between this node and others that have not ended, in the order in which they began. */
  readonly ListCopies: Unary<ListCopiesRequest, ListCopiesResponse>;
  /** Lists all group snapshots, ordered by id, with fields that CSI lacks. */
  readonly ListGroupSnapshots: Unary<ListGroupSnapshotsRequest, ListGroupSnapshotsResponse>;
  /** Measures the space and the I/O of volumes. Pools and filesystems that do not answer soon are left out. */
  readonly MeasureVolumes: Unary<MeasureVolumesRequest, MeasureVolumesResponse>;
  /** Lists what crashes, operators or other programs left on this node, with the space that it occupies. Changes nothing. */
  readonly ListLeftovers: Unary<ListLeftoversRequest, ListLeftoversResponse>;
  /** Removes leftovers. Each is looked up again first, and is not touched if it is not left over any more. */
  readonly RemoveLeftovers: Unary<RemoveLeftoversRequest, RemoveLeftoversResponse>;
  /** Checks the kernel, programs and pools, searches for leftovers, and returns findings with remedies. Changes nothing. */
  readonly Doctor: Unary<DoctorRequest, DoctorResponse>;
}

/** The nodes as `loopcsi controller` knows them. Served by the controller only, on its CSI socket. */
export interface NodesService {
  /** Lists all nodes, those that are forgotten included. */
  readonly ListNodes: Unary<ListNodesRequest, ListNodesResponse>;
  /** Declares that the data of a node is lost: the deletion of its volumes and snapshots succeeds from then on, and other calls for them return NOT_FOUND. Nothing on the node is deleted. Idempotent. FAILED_PRECONDITION if its agent can be reached, unless forced. */
  readonly ForgetNode: Unary<ForgetNodeRequest, ForgetNodeResponse>;
  /** Undoes ForgetNode: the node is used again, with the data that it has. Idempotent. */
  readonly RememberNode: Unary<RememberNodeRequest, RememberNodeResponse>;
}

export type PoolState =
  | 'STATE_UNKNOWN'
  /** Volumes can be created and used. */
  | 'SERVED'
  /** Not served; `reason` says why, for example because the disk is not mounted. */
  | 'UNAVAILABLE';

export type VolumeKind =
  | 'KIND_UNKNOWN'
  | 'MOUNT'
  | 'BLOCK';

export type VolumeProvisioning =
  | 'PROVISIONING_UNKNOWN'
  /** Blocks are allocated as data is written. */
  | 'THIN'
  /** All blocks are allocated when the volume is created. */
  | 'THICK';

export type ProblemStatus =
  | 'STATUS_UNKNOWN'
  | 'DEGRADED'
  | 'INACCESSIBLE'
  | 'DATA_LOSS';

export type CheckState =
  | 'STATE_UNKNOWN'
  | 'OK'
  /** Everything works, but the finding needs attention. */
  | 'WARN'
  /** A part of the driver does not work. */
  | 'FAIL';

export type ListPoolsRequest = Readonly<Record<string, never>>;

export interface ListPoolsResponse {
  /** Ordered by name. */
  readonly pools: readonly Pool[];
}

export interface Pool {
  /** Name in the configuration. */
  readonly name: string;
  /** Absolute path of the directory. */
  readonly path: string;
  readonly state: PoolState | UnknownEnumValue;
  /** Why the pool is unavailable and what to do; empty if it is served. */
  readonly reason: string;
  /** Type of the pool's filesystem, for example `ext4`; empty if unknown. */
  readonly fs_type: string;
  /** Abilities of the pool's filesystem, probed when the pool was opened. */
  readonly abilities: PoolAbilities | null;
  /** Size of the pool's filesystem. */
  readonly total_bytes: bigint;
  /** Free space of the pool's filesystem. */
  readonly free_bytes: bigint;
  /** Sum of the promised sizes of all volumes and of the space that snapshots may need. */
  readonly promised_bytes: bigint;
  /** Capacity: bytes that may still be promised. GetCapacity returns the same value. */
  readonly room_bytes: bigint;
  /** Space that the images of volumes and snapshots occupy. */
  readonly allocated_bytes: bigint;
  /** Space that deleted images still occupy. */
  readonly trash_bytes: bigint;
  readonly volume_count: number;
  readonly snapshot_count: number;
  /** The 8 hex digits in which every id of this pool ends. */
  readonly node_tag: string;
  /** Uuid in the pool's marker. */
  readonly uuid: string;
  /** Factor for the space that may be promised; with 1, no space is promised twice. */
  readonly overcommit: number;
  /** Space that is never promised: the configured reserve, or the blocks that the filesystem keeps for root, if that is more. */
  readonly reserve_bytes: bigint;
  /** Whether the pool is in its own XFS image inside `path`, so that it supports reflinks. */
  readonly embedded: boolean;
  /** The terms of `room_bytes`: overcommit × (total_bytes − other_bytes − reserve_bytes) − volume_bytes − snapshot_bytes − in_flight_bytes − trash_bytes − blocks_bytes − held_back_bytes. If the result is negative, `room_bytes` is 0. Used by other files on the pool's filesystem, and by the filesystem itself. */
  readonly other_bytes: bigint;
  /** Promised to volumes. */
  readonly volume_bytes: bigint;
  /** Space that snapshots may need. */
  readonly snapshot_bytes: bigint;
  /** Set aside for what is being created. */
  readonly in_flight_bytes: bigint;
  /** Free blocks that are missing for what is promised already, because images share blocks or are larger than promised. */
  readonly blocks_bytes: bigint;
  /** Held back because a pool with overcommit is below its trim watermark. */
  readonly held_back_bytes: bigint;
  /** Whether the pool has not been read since the driver started, so that lists lack its volumes and snapshots. */
  readonly never_read: boolean;
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
  /** Absolute path; required for a pool that is not configured. For a configured pool, empty or the configured path. */
  readonly path: string;
  /** If greater than 0, an XFS image of this size is created in the directory, and the pool is created in that image. */
  readonly embedded_size_bytes: bigint;
  /** Accept tmpfs and overlayfs, which are refused otherwise. */
  readonly force: boolean;
}

export interface InitPoolResponse {
  /** Current state of the pool; UNAVAILABLE, with the reason, if the pool is not configured. */
  readonly pool: Pool | null;
  /** Whether the marker already existed. */
  readonly existed: boolean;
}

export interface AdoptPoolRequest {
  /** Name of a configured pool. Required. */
  readonly name: string;
}

export interface AdoptPoolResponse {
  readonly pool: Pool | null;
}

export interface ForgetPoolRequest {
  /** Required. */
  readonly name: string;
  /** Absolute path; required for a pool that is not configured. For a configured pool, empty or the configured path. */
  readonly path: string;
  /** Uuid of the pool to forget, from an earlier response. If empty, nothing changes, and the response describes the pool that would be forgotten. */
  readonly uuid: string;
}

export interface ForgetPoolResponse {
  readonly path: string;
  readonly uuid: string;
  /** Volumes that the pool is known to contain. */
  readonly volume_ids: readonly string[];
}

export interface RecoverPoolRequest {
  /** Name of a configured pool. Required. */
  readonly name: string;
}

export interface RecoverPoolResponse {
  readonly pool: Pool | null;
}

export interface GrowPoolRequest {
  /** Name of a configured embedded pool. Required. */
  readonly name: string;
  /** New size of the image. Required. */
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
  /** List only volumes of this pool; empty means all. */
  readonly pool: string;
  /** Also ask the mounted filesystems for their usage, for at most two seconds. */
  readonly with_filesystem: boolean;
}

export interface ListVolumesResponse {
  readonly volumes: readonly Volume[];
  /** Empty on the last page. */
  readonly next_token: string;
}

export interface GetVolumeRequest {
  /** Id, name, or claim as `namespace/name`. Required. */
  readonly volume_id: string;
  /** Also search for the processes that use the volume, for at most a second. */
  readonly with_users: boolean;
  /** Also ask its mounted filesystem for its usage, for at most two seconds. */
  readonly with_filesystem: boolean;
}

export interface GetVolumeResponse {
  readonly volume: Volume | null;
  /** Processes that keep its mounts or its device in use, at most five. Empty unless `with_users` is set. */
  readonly users: readonly VolumeUser[];
}

/** A process, or a block device such as LVM, that uses a volume. */
export interface VolumeUser {
  /** Name of the program or of the block device. */
  readonly name: string;
  /** 0 for a block device. */
  readonly pid: number;
  /** Id of the container in which the process runs; empty if none is known. */
  readonly container_id: string;
}

export type Volume = {
  readonly volume_id: string;
  /** Name from the request that created it. */
  readonly name: string;
  readonly pool: string;
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  readonly size_bytes: bigint;
  /** Space that the image occupies. */
  readonly allocated_bytes: bigint;
  readonly provisioning: VolumeProvisioning | UnknownEnumValue;
  /** Logical sector size of the loop device: 4096 or 512. */
  readonly sector_size: number;
  readonly created_at: Timestamp | null;
  /** Current staging paths, from the kernel's mount table. */
  readonly staged_at: readonly string[];
  /** Current target paths. */
  readonly published_at: readonly string[];
  /** Path of the loop device, `/dev/loopN`; empty if the volume is not attached. */
  readonly loop_device: string;
  /** Whether the loop device bypasses the page cache (O_DIRECT). */
  readonly direct_io: boolean;
  /** Whether the volume is an inline volume, which is deleted with its pod. */
  readonly ephemeral: boolean;
  /** Problems found by the health check; empty if healthy. */
  readonly problems: readonly Problem[];
  /** UUID with which the filesystem was created; empty for a block volume. */
  readonly fs_uuid: string;
  /** Path of the image. For information only: no other program may change the image. */
  readonly image_path: string;
  /** Unset for a volume that was not created for Kubernetes, or whose provisioner names no claim (--extra-create-metadata). */
  readonly owner: VolumeOwner | null;
  /** Pods for which the volume is published on this node now. */
  readonly pods: readonly PublishedPod[];
  /** Docker's mount IDs that have the volume mounted. */
  readonly mount_ids: readonly string[];
  /** Read-only loop devices that other software attached to the image, such as a backup. */
  readonly reader_devices: readonly string[];
  /** When freed blocks are returned to the pool: `periodic`, `online` or `off`. */
  readonly trim: string;
  readonly io_limits: IoLimits | null;
  /** Unset unless the request has `with_filesystem`, and the filesystem is mounted and answers. */
  readonly filesystem: FilesystemUsage | null;
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

/** I/O limits of a volume; 0 means not limited. */
export interface IoLimits {
  readonly read_bytes_per_second: bigint;
  readonly write_bytes_per_second: bigint;
  /** Requests per second. */
  readonly read_iops: bigint;
  readonly write_iops: bigint;
}

/** The Kubernetes objects for which a volume was created. */
export interface VolumeOwner {
  readonly namespace: string;
  /** Name of the PersistentVolumeClaim; empty for an inline volume. */
  readonly claim: string;
  /** Name of the PersistentVolume; empty for an inline volume. */
  readonly persistent_volume: string;
  /** Name of the pod that declares an inline volume; empty for other volumes. */
  readonly pod: string;
}

/** A pod for which a volume is published. */
export interface PublishedPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly target_path: string;
  /** When the volume was published; unset if an earlier version of the driver published it. */
  readonly published_at: Timestamp | null;
}

/** A problem with a volume, as returned by CSI's health calls. */
export interface Problem {
  readonly status: ProblemStatus | UnknownEnumValue;
  /** Machine-readable cause in CamelCase. */
  readonly reason: string;
  /** Explanation for the operator. */
  readonly message: string;
}

export interface MountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Absolute path; the driver creates its last component. Required. */
  readonly target_path: string;
  readonly read_only: boolean;
  /** Mount options; those allowed in a StorageClass are allowed here. */
  readonly mount_flags: readonly string[];
}

export type MountVolumeResponse = Readonly<Record<string, never>>;

export interface UnmountVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Path to unmount; empty means all paths at which MountVolume published the volume. */
  readonly target_path: string;
}

export interface UnmountVolumeResponse {
  /** Paths that were unmounted; empty if the volume was not mounted. */
  readonly target_paths: readonly string[];
}

export interface ExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Minimum new size, which is rounded up. Required. */
  readonly size_bytes: bigint;
}

export interface ExpandVolumeResponse {
  readonly volume: Volume | null;
  /** Whether the filesystem will grow only at the next mount of the volume. */
  readonly at_next_mount: boolean;
}

export interface TrimVolumeRequest {
  /** Id or name. Required. */
  readonly volume_id: string;
}

export interface TrimVolumeResponse {
  /** Space that the image occupied before and after the trim. Writes of other processes in between are included. */
  readonly allocated_before_bytes: bigint;
  readonly allocated_after_bytes: bigint;
  /** Bytes that the filesystem reported as trimmed: its free blocks, whether or not the image had them allocated. */
  readonly discarded_bytes: bigint;
  /** Whether another call on the volume ended the trim before it was complete. */
  readonly interrupted: boolean;
  /** Whether the volume was unused, and was mounted privately for the trim. */
  readonly mounted_privately: boolean;
}

export interface ImportVolumeRequest {
  /** Name of the new volume. Required. */
  readonly name: string;
  /** Absolute path of a directory or an image. Required by ImportVolume. */
  readonly source_path: string;
  /** Minimum size of the volume. If 0, it is that of the image, or is computed from the directory. */
  readonly size_bytes: bigint;
  /** Filesystem of the volume. Empty means that of the image, or the driver's default for a directory. */
  readonly fs_type: string;
  /** Import an image as a raw block volume, whatever it contains. */
  readonly block: boolean;
  /** Parameters of a StorageClass. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Keep the UUID of the filesystem in the image. By default it gets a new one, since the kernel may refuse to mount two filesystems with one UUID. */
  readonly keep_uuid: boolean;
  /** Check the source and compute the size, but create nothing. */
  readonly dry_run: boolean;
}

export interface ImportVolumeResponse {
  /** Unset for a dry run. */
  readonly volume: Volume | null;
  /** Whether an earlier call had created the volume. */
  readonly existed: boolean;
  /** Whether the source is a directory. */
  readonly directory: boolean;
  /** Filesystem of the volume; empty for a block volume. */
  readonly fs_type: string;
  /** Size of the volume. */
  readonly size_bytes: bigint;
  /** Bytes of data in the source; 0 if an earlier call had created the volume. */
  readonly data_bytes: bigint;
  /** Files, directories and other entries of a directory. */
  readonly entries: bigint;
}

export type ImportStreamRequest = (
  | {
      readonly step: 'start';
      readonly start: ImportStreamStart;
      readonly data?: never;
      readonly end?: never;
    }
  | {
      readonly step: 'data';
      readonly data: ImportStreamData;
      readonly start?: never;
      readonly end?: never;
    }
  | {
      readonly step: 'end';
      readonly end: ImportStreamEnd;
      readonly start?: never;
      readonly data?: never;
    }
  | {
      readonly step?: undefined;
      readonly start?: never;
      readonly data?: never;
      readonly end?: never;
    }
);

export interface ImportStreamStart {
  /** `source_path` and `dry_run` must be unset. */
  readonly request: ImportVolumeRequest | null;
  /** Size of the image. Required. */
  readonly image_bytes: bigint;
}

export interface ImportStreamData {
  readonly offset: bigint;
  readonly data: Buffer;
}

export interface ImportStreamEnd {
  /** Number of bytes that the caller has read, zeros included. The image is refused if this is not its size. */
  readonly image_bytes: bigint;
}

export interface ExportImageRequest {
  /** One of the two is required, as an id or a name. */
  readonly volume_id: string;
  readonly snapshot_id: string;
  /** Send only data from this offset. */
  readonly starting_offset: bigint;
  /** `state` of an earlier response, to continue it. If empty, any state is accepted. */
  readonly expected_state: string;
}

export interface ExportImageResponse {
  /** Only in the first message. */
  readonly start: ExportImageStart | null;
  readonly offset: bigint;
  readonly data: Buffer;
}

export interface ExportImageStart {
  readonly size_bytes: bigint;
  /** Space that the image occupies: about as much data follows. */
  readonly allocated_bytes: bigint;
  /** Identifies the data: while it is unchanged, an interrupted export can be continued. Empty if the volume is in use. */
  readonly state: string;
  /** Empty for a block volume. */
  readonly fs_type: string;
  readonly sector_size: number;
  readonly name: string;
  /** For how long the volume was frozen, in milliseconds. */
  readonly frozen_ms: bigint;
}

export interface ListSnapshotsRequest {
  /** Maximum number of entries per page; 0 means no limit. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
  readonly starting_token: string;
  /** List only snapshots of this volume; empty means all. */
  readonly source_volume_id: string;
  /** List only snapshots of this pool; empty means all. */
  readonly pool: string;
}

export interface ListSnapshotsResponse {
  readonly snapshots: readonly Snapshot[];
  /** Empty on the last page. */
  readonly next_token: string;
}

export interface GetSnapshotRequest {
  /** Id, name, or VolumeSnapshot as `namespace/name`. Required. */
  readonly snapshot_id: string;
}

export interface GetSnapshotResponse {
  readonly snapshot: Snapshot | null;
}

export interface Snapshot {
  readonly snapshot_id: string;
  /** Name from the request that created it. */
  readonly name: string;
  /** Volume that was captured; set even if it has been deleted. */
  readonly source_volume_id: string;
  readonly pool: string;
  /** Minimum size of a volume restored from the snapshot. */
  readonly size_bytes: bigint;
  /** Space that the image occupies, including shared blocks. */
  readonly allocated_bytes: bigint;
  /** Point in time that the snapshot captures. */
  readonly created_at: Timestamp | null;
  /** Whether a volume can be created from the snapshot now. */
  readonly ready: boolean;
  /** Bytes copied so far; equal to `total_bytes` when ready. */
  readonly done_bytes: bigint;
  /** Bytes to copy in total. */
  readonly total_bytes: bigint;
  /** Group that the snapshot belongs to; empty if none. */
  readonly group_snapshot_id: string;
  /** Kind of the source volume. */
  readonly kind: VolumeKind | UnknownEnumValue;
  /** Empty for a block volume. */
  readonly fs_type: string;
  /** How long the source volume was frozen, in milliseconds. */
  readonly frozen_ms: bigint;
  /** Unset for a snapshot that was not taken for Kubernetes, or whose snapshotter names no object (--extra-create-metadata). */
  readonly owner: SnapshotOwner | null;
  /** Name of the volume that was captured; empty if it has been deleted. */
  readonly source_volume_name: string;
}

/** The Kubernetes objects for which a snapshot was taken. */
export interface SnapshotOwner {
  readonly namespace: string;
  /** Name of the VolumeSnapshot; empty for a member of a group, whose VolumeSnapshot is created afterwards. */
  readonly volume_snapshot: string;
  /** Name of the VolumeSnapshotContent. */
  readonly volume_snapshot_content: string;
  /** Name of the VolumeGroupSnapshot; empty for a snapshot that is not a member of a group. */
  readonly volume_group_snapshot: string;
}

export interface WatchSnapshotRequest {
  /** Required. */
  readonly snapshot_id: string;
}

export interface WatchSnapshotResponse {
  readonly done_bytes: bigint;
  readonly total_bytes: bigint;
  /** Whether the copy is complete, which ends the stream. */
  readonly ready: boolean;
  /** Why the copy failed, which ends the stream; otherwise empty. */
  readonly error: string;
}

export interface GetProgressRequest {
  /** Name of the volume or of the snapshot that is being created. One of the two is required. */
  readonly volume_name: string;
  readonly snapshot_name: string;
}

export interface GetProgressResponse {
  /** Both are 0 if nothing is being copied. */
  readonly done_bytes: bigint;
  readonly total_bytes: bigint;
  /** Id of the volume, if a call is creating it; otherwise empty. DeleteVolume with this id cancels that call. */
  readonly volume_id: string;
}

export type ListCopiesRequest = Readonly<Record<string, never>>;

export interface ListCopiesResponse {
  readonly copies: readonly Copy[];
}

/** A copy between this node and another one. */
export interface Copy {
  /** `receive` if this node makes the volume, `send` if the other one does. */
  readonly direction: string;
  /** `snapshot` or `volume`, and its id, on the node that sends. */
  readonly source_kind: string;
  readonly source_id: string;
  /** Name of the volume that is made. */
  readonly copy_name: string;
  /** Id of the node that sends, or address and port of the one that receives. */
  readonly peer: string;
  /** Whether it waits until other copies have ended. */
  readonly waiting: boolean;
  /** Position in the image. Holes are not sent. */
  readonly done_bytes: bigint;
  /** Size of the image; 0 while it is not known. */
  readonly total_bytes: bigint;
}

export type ListGroupSnapshotsRequest = Readonly<Record<string, never>>;

export interface ListGroupSnapshotsResponse {
  readonly group_snapshots: readonly GroupSnapshot[];
}

export interface GroupSnapshot {
  readonly group_snapshot_id: string;
  /** Name from the request that created it. */
  readonly name: string;
  /** Snapshots and volumes in the same order. */
  readonly snapshot_ids: readonly string[];
  readonly source_volume_ids: readonly string[];
  /** Point in time that the snapshots capture. */
  readonly created_at: Timestamp | null;
  /** How long the source volumes were frozen, in milliseconds. */
  readonly frozen_ms: bigint;
  /** Unset for a group that was not taken for Kubernetes. */
  readonly owner: SnapshotOwner | null;
}

export interface MeasureVolumesRequest {
  /** Measure only volumes of this pool; empty means all. */
  readonly pool: string;
}

export interface MeasureVolumesResponse {
  /** Ordered by id. */
  readonly volumes: readonly VolumeUsage[];
  /** Clock of the driver when it read the I/O counters, in milliseconds since an arbitrary point in time. */
  readonly measured_ms: number;
}

/** Space and I/O of a volume. */
export interface VolumeUsage {
  readonly volume_id: string;
  readonly name: string;
  readonly pool: string;
  readonly size_bytes: bigint;
  /** Space that the image occupies. */
  readonly allocated_bytes: bigint;
  /** Unset unless its filesystem is mounted and answers. */
  readonly filesystem: FilesystemUsage | null;
  /** Unset unless it is attached. */
  readonly io: VolumeIo | null;
  /** Claim or pod that the volume belongs to; unset if none is known. */
  readonly owner: VolumeOwner | null;
}

export interface FilesystemUsage {
  readonly total_bytes: bigint;
  readonly used_bytes: bigint;
}

/** Counters of the loop device since it was attached (Documentation/admin-guide/iostats.rst). */
export interface VolumeIo {
  readonly reads: bigint;
  readonly read_bytes: bigint;
  readonly read_ms: bigint;
  readonly writes: bigint;
  readonly written_bytes: bigint;
  readonly write_ms: bigint;
  /** Time during which at least one request was in progress. */
  readonly busy_ms: bigint;
  /** Requests in progress. */
  readonly in_flight: bigint;
}

export type DoctorRequest = Readonly<Record<string, never>>;

export interface DoctorResponse {
  readonly checks: readonly Check[];
}

/** The result of one check. */
export interface Check {
  /** Stable name in kebab case, such as `loop-control`, `program:mkfs.xfs` or `pool:default`. */
  readonly name: string;
  readonly state: CheckState | UnknownEnumValue;
  /** What the check found. */
  readonly message: string;
  /** What to do; empty if OK. */
  readonly remedy: string;
}

export type ListLeftoversRequest = Readonly<Record<string, never>>;

export interface ListLeftoversResponse {
  readonly leftovers: readonly Leftover[];
}

export interface Leftover {
  /** `loop-device`, `incomplete-entry`, `deleted-entry`, `mount-directory`, `copy-progress`, `entry-without-record`, `vanished-pool` or `known-volume`. */
  readonly kind: string;
  /** Path of the file, directory or device. */
  readonly path: string;
  /** Name of the pool; empty for a leftover outside all pools. */
  readonly pool: string;
  /** Space that it occupies. */
  readonly bytes: bigint;
  /** Why it is left over. */
  readonly why: string;
  /** What an operator may do; empty if RemoveLeftovers removes it. */
  readonly remedy: string;
}

export interface RemoveLeftoversRequest {
  /** Paths of ListLeftovers. */
  readonly paths: readonly string[];
}

export interface RemoveLeftoversResponse {
  /** One result for each path, in order. */
  readonly results: readonly RemovedLeftover[];
}

export interface RemovedLeftover {
  readonly path: string;
  /** Why it was not removed; empty if it was. */
  readonly problem: string;
}

export type ListNodesRequest = Readonly<Record<string, never>>;

export interface ListNodesResponse {
  readonly nodes: readonly ControlledNode[];
}

export interface ControlledNode {
  /** The node's id, or the address of its agent if that has never said which node it is. */
  readonly name: string;
  /** The end of the ids of its volumes and snapshots; empty if it is not known which node it is. */
  readonly tag: string;
  /** `connecting`, `ready`, `unreachable`, `refused` or `forgotten`. A forgotten node whose agent can be reached is `refused`. */
  readonly state: string;
  /** Why it is not ready; empty if it is. */
  readonly reason: string;
  /** Since when it has been in this state, as far as this controller knows. */
  readonly since: Timestamp | null;
  /** HOST:PORT of its agents; empty if none is announced. */
  readonly addresses: readonly string[];
  /** Version of its driver; empty if it is not known. This and the fields below are what the driver said last. */
  readonly version: string;
  /** Names of its pools. */
  readonly pools: readonly string[];
  /** The number of its volumes; absent if it is not known. */
  readonly volume_count: Int64Value | null;
  /** When it was forgotten; absent if it is not. */
  readonly forgotten_at: Timestamp | null;
}

export interface ForgetNodeRequest {
  /** The node's id. */
  readonly name: string;
  /** Also forget a node whose agent can be reached. */
  readonly force: boolean;
  /** HOST:PORT of agents of the node that have not said since the start of this controller which node they are. */
  readonly addresses: readonly string[];
}

export interface ForgetNodeResponse {
  /** The end of the ids of the volumes and snapshots that are lost. */
  readonly tag: string;
  /** It was forgotten before this call. */
  readonly was_forgotten: boolean;
  /** This controller has seen the node since it started. */
  readonly was_known: boolean;
}

export interface RememberNodeRequest {
  /** The node's id. */
  readonly name: string;
}

export interface RememberNodeResponse {
  readonly tag: string;
  /** It was forgotten before this call. */
  readonly was_forgotten: boolean;
}

/** An integer that can be absent. */
export interface Int64Value {
  readonly value: bigint;
}

/** Seconds since the Unix epoch, and nanoseconds within that second. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}
