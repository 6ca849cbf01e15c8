// Generated from csi-proto/csi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ServerStream, Unary } from './rpc-kinds.ts';

/** An enum value this interface does not name, from a newer caller. Refuse it before switching. */
export type UnknownEnumValue = number;

/** The services of csi.v1, by their full names. */
export interface CsiServices {
  readonly 'csi.v1.Identity': IdentityService;
  readonly 'csi.v1.Controller': ControllerService;
  readonly 'csi.v1.GroupController': GroupControllerService;
  readonly 'csi.v1.SnapshotMetadata': SnapshotMetadataService;
  readonly 'csi.v1.Node': NodeService;
}

/** Who the plugin is and whether it works. Served beside every other service. Spec: Identity Service RPC. */
export interface IdentityService {
  /** Name and version. Spec: GetPluginInfo. */
  readonly GetPluginInfo: Unary<GetPluginInfoRequest, GetPluginInfoResponse>;
  /** Which optional services and behaviours there are. Spec: GetPluginCapabilities. */
  readonly GetPluginCapabilities: Unary<GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse>;
  /** Health of the plugin itself, not of its volumes. Spec: Probe. */
  readonly Probe: Unary<ProbeRequest, ProbeResponse>;
}

/** Volumes and snapshots as objects, wherever they are used. Spec: Controller Service RPC. */
export interface ControllerService {
  /** Makes a volume, or finds the one of that name. Spec: CreateVolume. */
  readonly CreateVolume: Unary<CreateVolumeRequest, CreateVolumeResponse>;
  /** Removes a volume; one that is gone is a success. Spec: DeleteVolume. */
  readonly DeleteVolume: Unary<DeleteVolumeRequest, DeleteVolumeResponse>;
  /** Attaches a volume to a node. Spec: ControllerPublishVolume. */
  readonly ControllerPublishVolume: Unary<ControllerPublishVolumeRequest, ControllerPublishVolumeResponse>;
  /** Takes a volume off a node. Spec: ControllerUnpublishVolume. */
  readonly ControllerUnpublishVolume: Unary<ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse>;
  /** Asks whether a volume can be used in the given ways. Spec: ValidateVolumeCapabilities. */
  readonly ValidateVolumeCapabilities: Unary<ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse>;
  /** All volumes, in pages. Spec: ListVolumes. */
  readonly ListVolumes: Unary<ListVolumesRequest, ListVolumesResponse>;
  /** Every volume that is not well, in pages. Spec: ControllerListVolumeHealth. Alpha. */
  readonly ControllerListVolumeHealth: Unary<ControllerListVolumeHealthRequest, ControllerListVolumeHealthResponse>;
  /** Health of one volume. Spec: ControllerGetVolumeHealth. Alpha. */
  readonly ControllerGetVolumeHealth: Unary<ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse>;
  /** How much more can be provisioned. Spec: GetCapacity. */
  readonly GetCapacity: Unary<GetCapacityRequest, GetCapacityResponse>;
  /** Which controller calls are served. Spec: ControllerGetCapabilities. */
  readonly ControllerGetCapabilities: Unary<ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse>;
  /** Cuts a point-in-time copy, or finds the one of that name. Spec: CreateSnapshot. */
  readonly CreateSnapshot: Unary<CreateSnapshotRequest, CreateSnapshotResponse>;
  /** Removes a snapshot; one that is gone is a success. Spec: DeleteSnapshot. */
  readonly DeleteSnapshot: Unary<DeleteSnapshotRequest, DeleteSnapshotResponse>;
  /** All snapshots, filtered, in pages. Spec: ListSnapshots. */
  readonly ListSnapshots: Unary<ListSnapshotsRequest, ListSnapshotsResponse>;
  /** One snapshot. Spec: GetSnapshot. Alpha. */
  readonly GetSnapshot: Unary<GetSnapshotRequest, GetSnapshotResponse>;
  /** Grows a volume. Spec: ControllerExpandVolume. */
  readonly ControllerExpandVolume: Unary<ControllerExpandVolumeRequest, ControllerExpandVolumeResponse>;
  /** One volume. Spec: ControllerGetVolume. Alpha. */
  readonly ControllerGetVolume: Unary<ControllerGetVolumeRequest, ControllerGetVolumeResponse>;
  /** Changes a volume's mutable parameters. Spec: ControllerModifyVolume. */
  readonly ControllerModifyVolume: Unary<ControllerModifyVolumeRequest, ControllerModifyVolumeResponse>;
}

/** Snapshots of several volumes at one instant. Spec: Group Controller Service RPCs. */
export interface GroupControllerService {
  /** Which group calls are served. Spec: GroupControllerGetCapabilities. */
  readonly GroupControllerGetCapabilities: Unary<GroupControllerGetCapabilitiesRequest, GroupControllerGetCapabilitiesResponse>;
  /** Cuts all members together, or finds the group of that name. Spec: CreateVolumeGroupSnapshot. */
  readonly CreateVolumeGroupSnapshot: Unary<CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse>;
  /** Removes a group and its members. Spec: DeleteVolumeGroupSnapshot. */
  readonly DeleteVolumeGroupSnapshot: Unary<DeleteVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotResponse>;
  /** One group. Spec: GetVolumeGroupSnapshot. */
  readonly GetVolumeGroupSnapshot: Unary<GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse>;
}

/** Which blocks of a snapshot hold data or changed, for backup programs. Spec: Snapshot Metadata Service RPCs. Alpha. */
export interface SnapshotMetadataService {
  /** The ranges a snapshot has allocated. Spec: GetMetadataAllocated. */
  readonly GetMetadataAllocated: ServerStream<GetMetadataAllocatedRequest, GetMetadataAllocatedResponse>;
  /** The ranges in which two snapshots of a volume differ. Spec: GetMetadataDelta. */
  readonly GetMetadataDelta: ServerStream<GetMetadataDeltaRequest, GetMetadataDeltaResponse>;
}

/** Volumes on the node where they are used. Spec: Node Service RPC. */
export interface NodeService {
  /** Makes a volume ready on the node, once. Spec: NodeStageVolume. */
  readonly NodeStageVolume: Unary<NodeStageVolumeRequest, NodeStageVolumeResponse>;
  /** Undoes NodeStageVolume. Spec: NodeUnstageVolume. */
  readonly NodeUnstageVolume: Unary<NodeUnstageVolumeRequest, NodeUnstageVolumeResponse>;
  /** Shows a volume at a workload's path. Spec: NodePublishVolume. */
  readonly NodePublishVolume: Unary<NodePublishVolumeRequest, NodePublishVolumeResponse>;
  /** Undoes NodePublishVolume and removes the path. Spec: NodeUnpublishVolume. */
  readonly NodeUnpublishVolume: Unary<NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse>;
  /** Used and free bytes and inodes. Spec: NodeGetVolumeStats. */
  readonly NodeGetVolumeStats: Unary<NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse>;
  /** Health of one volume as the node sees it. Spec: NodeGetVolumeHealth. Alpha. */
  readonly NodeGetVolumeHealth: Unary<NodeGetVolumeHealthRequest, NodeGetVolumeHealthResponse>;
  /** Health of the storage behind the volumes as the node sees it. Spec: NodeGetStorageHealth. Alpha. */
  readonly NodeGetStorageHealth: Unary<NodeGetStorageHealthRequest, NodeGetStorageHealthResponse>;
  /** Grows the device and filesystem on the node. Spec: NodeExpandVolume. */
  readonly NodeExpandVolume: Unary<NodeExpandVolumeRequest, NodeExpandVolumeResponse>;
  /** Which node calls are served. Spec: NodeGetCapabilities. */
  readonly NodeGetCapabilities: Unary<NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse>;
  /** Id, limits and topology of this node. Spec: NodeGetInfo. */
  readonly NodeGetInfo: Unary<NodeGetInfoRequest, NodeGetInfoResponse>;
}

export type PluginCapabilityServiceType =
  | 'UNKNOWN'
  /** The Controller service is served. */
  | 'CONTROLLER_SERVICE'
  /** Volumes are not reachable from everywhere: topology is to be looked at. */
  | 'VOLUME_ACCESSIBILITY_CONSTRAINTS'
  /** The GroupController service is served. */
  | 'GROUP_CONTROLLER_SERVICE'
  /** The SnapshotMetadata service is served. Alpha. */
  | 'SNAPSHOT_METADATA_SERVICE'
  /** Snapshots are not reachable from everywhere either. Alpha. */
  | 'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS';

export type PluginCapabilityVolumeExpansionType =
  | 'UNKNOWN'
  /** Also while published. */
  | 'ONLINE'
  /** Only while unpublished. */
  | 'OFFLINE';

export type VolumeCapabilityAccessModeMode =
  | 'UNKNOWN'
  /** One node, reading and writing. */
  | 'SINGLE_NODE_WRITER'
  /** One node, reading. */
  | 'SINGLE_NODE_READER_ONLY'
  /** Many nodes, reading. */
  | 'MULTI_NODE_READER_ONLY'
  /** Many nodes, one of them writing. */
  | 'MULTI_NODE_SINGLE_WRITER'
  /** Many nodes, all writing. */
  | 'MULTI_NODE_MULTI_WRITER'
  /** One node, one path writing. Alpha. */
  | 'SINGLE_NODE_SINGLE_WRITER'
  /** One node, many paths writing. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER';

/** How bad a volume's problem is. Spec: ControllerListVolumeHealth. */
export type VolumeHealthErrorType =
  | 'UNKNOWN_VOLUME_HEALTH_TYPE'
  /** Works, but not as it should. */
  | 'DEGRADED'
  /** Cannot be read or written now. */
  | 'INACCESSIBLE'
  /** Data is gone. */
  | 'DATA_LOSS';

export type ControllerServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'CREATE_DELETE_VOLUME'
  | 'PUBLISH_UNPUBLISH_VOLUME'
  | 'LIST_VOLUMES'
  | 'GET_CAPACITY'
  | 'CREATE_DELETE_SNAPSHOT'
  | 'LIST_SNAPSHOTS'
  /** CreateVolume takes a volume as its source. */
  | 'CLONE_VOLUME'
  /** ControllerPublishVolume can attach for reading only. */
  | 'PUBLISH_READONLY'
  | 'EXPAND_VOLUME'
  /** ListVolumes tells the nodes of each volume. */
  | 'LIST_VOLUMES_PUBLISHED_NODES'
  /** Alpha. */
  | 'GET_VOLUME'
  /** The precise SINGLE_NODE_*_WRITER access modes are understood. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER'
  | 'MODIFY_VOLUME'
  /** Alpha. */
  | 'GET_SNAPSHOT'
  /** Alpha. */
  | 'GET_VOLUME_HEALTH'
  /** Offered only together with GET_VOLUME_HEALTH. Alpha. */
  | 'LIST_VOLUME_HEALTH';

export type VolumeUsageUnit =
  | 'UNKNOWN'
  | 'BYTES'
  | 'INODES';

/** How bad a backend's problem is. Spec: NodeGetStorageHealth. */
export type StorageHealthErrorType =
  | 'UNKNOWN_STORAGE_HEALTH_ERROR_TYPE'
  /** Works, but not as it should. */
  | 'STORAGE_DEGRADED'
  /** Cannot be reached from this node. */
  | 'STORAGE_UNREACHABLE';

export type NodeServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'STAGE_UNSTAGE_VOLUME'
  | 'GET_VOLUME_STATS'
  | 'EXPAND_VOLUME'
  /** The precise SINGLE_NODE_*_WRITER access modes are understood. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER'
  /** `volume_mount_group` is honoured, so the CO leaves ownership alone. */
  | 'VOLUME_MOUNT_GROUP'
  /** Alpha. */
  | 'GET_VOLUME_HEALTH'
  /** Alpha. */
  | 'GET_STORAGE_HEALTH';

export type GroupControllerServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT';

/** Whether all ranges of a stream have one length. Spec: Metadata Format. */
export type BlockMetadataType =
  | 'UNKNOWN'
  | 'FIXED_LENGTH'
  | 'VARIABLE_LENGTH';

/** Spec: GetPluginInfo. */
export type GetPluginInfoRequest = Readonly<Record<string, never>>;

/** Spec: GetPluginInfo. */
export interface GetPluginInfoResponse {
  /** Domain-like and stable, at most 63 characters. Required. */
  readonly name: string;
  /** Free text. Required. */
  readonly vendor_version: string;
  /** Anything else worth telling; the CO does not read it. */
  readonly manifest: Readonly<Record<string, string>>;
}

/** Spec: GetPluginCapabilities. */
export type GetPluginCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: GetPluginCapabilities. */
export interface GetPluginCapabilitiesResponse {
  readonly capabilities: readonly PluginCapability[];
}

/** One thing the plugin can do as a whole. Spec: GetPluginCapabilities. */
export type PluginCapability = (
  | {
      readonly type: 'service';
      readonly service: PluginCapabilityService;
      readonly volume_expansion?: never;
    }
  | {
      readonly type: 'volume_expansion';
      readonly volume_expansion: PluginCapabilityVolumeExpansion;
      readonly service?: never;
    }
  | {
      readonly type?: undefined;
      readonly service?: never;
      readonly volume_expansion?: never;
    }
);

/** A service, or a behaviour that spans services. */
export interface PluginCapabilityService {
  readonly type: PluginCapabilityServiceType | UnknownEnumValue;
}

/** When volumes may grow. */
export interface PluginCapabilityVolumeExpansion {
  readonly type: PluginCapabilityVolumeExpansionType | UnknownEnumValue;
}

/** Spec: Probe. */
export type ProbeRequest = Readonly<Record<string, never>>;

/** Spec: Probe. */
export interface ProbeResponse {
  /** false: still starting. Absent counts as true. */
  readonly ready: BoolValue | null;
}

/** Spec: CreateVolume. */
export interface CreateVolumeRequest {
  /** The caller's name, which makes the call idempotent. Required. */
  readonly name: string;
  /** Size wanted; absent leaves it to the plugin. */
  readonly capacity_range: CapacityRange | null;
  /** All of these must hold for the new volume. Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  /** The storage class's own settings. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** What to fill the volume from; absent makes an empty one. */
  readonly volume_content_source: VolumeContentSource | null;
  /** Where the volume must or should be reachable. */
  readonly accessibility_requirements: TopologyRequirement | null;
  /** Settings that may be changed later; they win over `parameters`. */
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** What a new volume is a copy of. Spec: CreateVolume. */
export type VolumeContentSource = (
  | {
      readonly type: 'snapshot';
      readonly snapshot: VolumeContentSourceSnapshotSource;
      readonly volume?: never;
    }
  | {
      readonly type: 'volume';
      readonly volume: VolumeContentSourceVolumeSource;
      readonly snapshot?: never;
    }
  | {
      readonly type?: undefined;
      readonly snapshot?: never;
      readonly volume?: never;
    }
);

export interface VolumeContentSourceSnapshotSource {
  /** Required. */
  readonly snapshot_id: string;
}

export interface VolumeContentSourceVolumeSource {
  /** Required. */
  readonly volume_id: string;
}

/** Spec: CreateVolume. */
export interface CreateVolumeResponse {
  /** Required. */
  readonly volume: Volume | null;
}

/** One way of using a volume. Spec: CreateVolume. */
export type VolumeCapability = {
  /** Required. */
  readonly access_mode: VolumeCapabilityAccessMode | null;
} & (
  | {
      readonly access_type: 'block';
      readonly block: VolumeCapabilityBlockVolume;
      readonly mount?: never;
    }
  | {
      readonly access_type: 'mount';
      readonly mount: VolumeCapabilityMountVolume;
      readonly block?: never;
    }
  | {
      readonly access_type?: undefined;
      readonly block?: never;
      readonly mount?: never;
    }
);

/** As a raw device. */
export type VolumeCapabilityBlockVolume = Readonly<Record<string, never>>;

/** As a mounted filesystem. */
export interface VolumeCapabilityMountVolume {
  /** Empty leaves the choice to the plugin. */
  readonly fs_type: string;
  /** Options for the mount; can be sensitive. At most 4 KiB together. */
  readonly mount_flags: readonly string[];
  /** Group that owns the files, where VOLUME_MOUNT_GROUP is offered. */
  readonly volume_mount_group: string;
}

/** How many nodes and writers there are at a time. */
export interface VolumeCapabilityAccessMode {
  /** Required. */
  readonly mode: VolumeCapabilityAccessModeMode | UnknownEnumValue;
}

/** A size in bytes between two bounds, both inclusive; 0 means no bound. Spec: CreateVolume. */
export interface CapacityRange {
  readonly required_bytes: bigint;
  readonly limit_bytes: bigint;
}

/** A volume that exists. Spec: CreateVolume. */
export interface Volume {
  /** Real size; 0 means unknown. */
  readonly capacity_bytes: bigint;
  /** The plugin's id, at most 128 bytes. Required. */
  readonly volume_id: string;
  /** Handed back, unchanged, in later calls for this volume. */
  readonly volume_context: Readonly<Record<string, string>>;
  /** What it was made from; repeats the request's source. */
  readonly content_source: VolumeContentSource | null;
  /** From where it can be reached: any one of these. */
  readonly accessible_topology: readonly Topology[];
}

/** Where a volume or snapshot has to be reachable. Spec: CreateVolume. */
export interface TopologyRequirement {
  /** At least one of these must do. */
  readonly requisite: readonly Topology[];
  /** Tried first, in this order. */
  readonly preferred: readonly Topology[];
}

/** A place, as key and value pairs that hold together. Spec: CreateVolume. */
export interface Topology {
  readonly segments: Readonly<Record<string, string>>;
}

/** Spec: DeleteVolume. */
export interface DeleteVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: DeleteVolume. */
export type DeleteVolumeResponse = Readonly<Record<string, never>>;

/** Spec: ControllerPublishVolume. */
export interface ControllerPublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** As NodeGetInfo told it. Required. */
  readonly node_id: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Attach for reading only. */
  readonly readonly: boolean;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** As CreateVolume answered it. */
  readonly volume_context: Readonly<Record<string, string>>;
}

/** Spec: ControllerPublishVolume. */
export interface ControllerPublishVolumeResponse {
  /** Handed to the node's calls. */
  readonly publish_context: Readonly<Record<string, string>>;
}

/** Spec: ControllerUnpublishVolume. */
export interface ControllerUnpublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Empty: off all nodes. */
  readonly node_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: ControllerUnpublishVolume. */
export type ControllerUnpublishVolumeResponse = Readonly<Record<string, never>>;

/** Spec: ValidateVolumeCapabilities. */
export interface ValidateVolumeCapabilitiesRequest {
  /** Required. */
  readonly volume_id: string;
  /** As CreateVolume answered it. */
  readonly volume_context: Readonly<Record<string, string>>;
  /** All of these are asked about together. Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Readonly<Record<string, string>>;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ValidateVolumeCapabilities. */
export interface ValidateVolumeCapabilitiesResponse {
  /** Present only when everything asked holds. */
  readonly confirmed: ValidateVolumeCapabilitiesResponseConfirmed | null;
  /** Why not, for people. */
  readonly message: string;
}

/** What was found to hold: a repetition of the request's own fields. */
export interface ValidateVolumeCapabilitiesResponseConfirmed {
  readonly volume_context: Readonly<Record<string, string>>;
  /** Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Readonly<Record<string, string>>;
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ListVolumes. */
export interface ListVolumesRequest {
  /** Most entries of one page; 0 means no bound, less is refused. */
  readonly max_entries: number;
  /** `next_token` of the page before; empty starts. */
  readonly starting_token: string;
}

/** Spec: ListVolumes. */
export interface ListVolumesResponse {
  readonly entries: readonly ListVolumesResponseEntry[];
  /** Empty on the last page. */
  readonly next_token: string;
}

/** Present state of a volume. */
export interface ListVolumesResponseVolumeStatus {
  /** Nodes it is attached to, where LIST_VOLUMES_PUBLISHED_NODES is offered. */
  readonly published_node_ids: readonly string[];
}

export interface ListVolumesResponseEntry {
  /** Required. */
  readonly volume: Volume | null;
  readonly status: ListVolumesResponseVolumeStatus | null;
}

/** Spec: ControllerListVolumeHealth. Alpha. */
export interface ControllerListVolumeHealthRequest {
  /** Most entries of one page; 0 means no bound. */
  readonly max_entries: number;
  /** `next_token` of the page before; empty starts. */
  readonly starting_token: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: ControllerListVolumeHealth. Alpha. */
export interface ControllerListVolumeHealthResponse {
  /** Only volumes that have something to tell. */
  readonly entries: readonly VolumeHealth[];
  /** Empty on the last page. */
  readonly next_token: string;
}

/** A volume and its problems. Spec: ControllerListVolumeHealth. Alpha. */
export interface VolumeHealth {
  /** Required. */
  readonly volume_id: string;
  /** Empty: healthy. */
  readonly health_statuses: readonly VolumeHealthVolumeHealthEntry[];
}

/** One problem; no two with the same status and reason. */
export interface VolumeHealthVolumeHealthEntry {
  /** Required. */
  readonly status: VolumeHealthErrorType | UnknownEnumValue;
  /** One CamelCase word for machines. Required. */
  readonly reason: string;
  /** A sentence for people. */
  readonly message: string;
}

/** Spec: ControllerGetVolumeHealth. Alpha. */
export interface ControllerGetVolumeHealthRequest {
  /** Required. */
  readonly volume_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: ControllerGetVolumeHealth. Alpha. */
export interface ControllerGetVolumeHealthResponse {
  /** Required. */
  readonly volume_health: VolumeHealth | null;
}

/** Spec: ControllerGetVolume. Alpha. */
export interface ControllerGetVolumeRequest {
  /** Required. */
  readonly volume_id: string;
}

/** Spec: ControllerGetVolume. Alpha. */
export interface ControllerGetVolumeResponse {
  /** Required. */
  readonly volume: Volume | null;
  /** Required. */
  readonly status: ControllerGetVolumeResponseVolumeStatus | null;
}

/** Present state of the volume. */
export interface ControllerGetVolumeResponseVolumeStatus {
  /** Nodes it is attached to. */
  readonly published_node_ids: readonly string[];
}

/** Spec: ControllerModifyVolume. */
export interface ControllerModifyVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** New values; keys that are not named keep theirs. Required. */
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ControllerModifyVolume. */
export type ControllerModifyVolumeResponse = Readonly<Record<string, never>>;

/** Spec: GetCapacity. */
export interface GetCapacityRequest {
  /** Count only room for volumes that can be used in all these ways. */
  readonly volume_capabilities: readonly VolumeCapability[];
  /** Count only room that these class settings would use. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Count only room reachable from there. */
  readonly accessible_topology: Topology | null;
}

/** Spec: GetCapacity. */
export interface GetCapacityResponse {
  /** Bytes that may still be provisioned. Required. */
  readonly available_capacity: bigint;
  /** The largest volume that could be made, where it is known. */
  readonly maximum_volume_size: Int64Value | null;
  /** The smallest volume that can be made, where it is known. Alpha. */
  readonly minimum_volume_size: Int64Value | null;
}

/** Spec: ControllerGetCapabilities. */
export type ControllerGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: ControllerGetCapabilities. */
export interface ControllerGetCapabilitiesResponse {
  readonly capabilities: readonly ControllerServiceCapability[];
}

/** One thing the Controller service can do. Spec: ControllerGetCapabilities. */
export type ControllerServiceCapability = (
  | {
      readonly type: 'rpc';
      readonly rpc: ControllerServiceCapabilityRPC;
    }
  | {
      readonly type?: undefined;
      readonly rpc?: never;
    }
);

export interface ControllerServiceCapabilityRPC {
  readonly type: ControllerServiceCapabilityRPCType | UnknownEnumValue;
}

/** Spec: CreateSnapshot. */
export interface CreateSnapshotRequest {
  /** Required. */
  readonly source_volume_id: string;
  /** The caller's name, which makes the call idempotent. Required. */
  readonly name: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The snapshot class's own settings. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Where the snapshot must or should be reachable. Alpha. */
  readonly accessibility_requirements: TopologyRequirement | null;
}

/** Spec: CreateSnapshot. */
export interface CreateSnapshotResponse {
  /** Required. */
  readonly snapshot: Snapshot | null;
}

/** A snapshot that exists. Spec: CreateSnapshot. */
export interface Snapshot {
  /** Least size of a volume restored from it; 0 means unknown. */
  readonly size_bytes: bigint;
  /** The plugin's id, at most 128 bytes. Required. */
  readonly snapshot_id: string;
  /** Required. */
  readonly source_volume_id: string;
  /** The instant it shows. Required. */
  readonly creation_time: Timestamp | null;
  /** Whether volumes can be made from it now. Spec: The ready_to_use Parameter. */
  readonly ready_to_use: boolean;
  /** The group it was cut in, if any. */
  readonly group_snapshot_id: string;
  /** From where it can be restored: any one of these. Alpha. */
  readonly accessible_topology: readonly Topology[];
}

/** Spec: DeleteSnapshot. */
export interface DeleteSnapshotRequest {
  /** Required. */
  readonly snapshot_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: DeleteSnapshot. */
export type DeleteSnapshotResponse = Readonly<Record<string, never>>;

/** Filters hold together; one that matches nothing gives an empty page. Spec: ListSnapshots. */
export interface ListSnapshotsRequest {
  /** Most entries of one page; 0 means no bound, less is refused. */
  readonly max_entries: number;
  /** `next_token` of the page before; empty starts. */
  readonly starting_token: string;
  /** Only snapshots of this volume. */
  readonly source_volume_id: string;
  /** Only this snapshot. */
  readonly snapshot_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: ListSnapshots. */
export interface ListSnapshotsResponse {
  readonly entries: readonly ListSnapshotsResponseEntry[];
  /** Empty on the last page. */
  readonly next_token: string;
}

export interface ListSnapshotsResponseEntry {
  /** Required. */
  readonly snapshot: Snapshot | null;
}

/** Spec: GetSnapshot. Alpha. */
export interface GetSnapshotRequest {
  /** Required. */
  readonly snapshot_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: GetSnapshot. Alpha. */
export interface GetSnapshotResponse {
  /** Required. */
  readonly snapshot: Snapshot | null;
}

/** Spec: ControllerExpandVolume. */
export interface ControllerExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** New size. Required. */
  readonly capacity_range: CapacityRange | null;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** How the volume is used, where the caller knows. */
  readonly volume_capability: VolumeCapability | null;
}

/** Spec: ControllerExpandVolume. */
export interface ControllerExpandVolumeResponse {
  /** New real size. Required. */
  readonly capacity_bytes: bigint;
  /** Whether NodeExpandVolume has to follow. Required. */
  readonly node_expansion_required: boolean;
}

/** Spec: NodeStageVolume. */
export interface NodeStageVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** As ControllerPublishVolume answered it. */
  readonly publish_context: Readonly<Record<string, string>>;
  /** A directory the caller made. Required. */
  readonly staging_target_path: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** As CreateVolume answered it. */
  readonly volume_context: Readonly<Record<string, string>>;
}

/** Spec: NodeStageVolume. */
export type NodeStageVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodeUnstageVolume. */
export interface NodeUnstageVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Required. */
  readonly staging_target_path: string;
}

/** Spec: NodeUnstageVolume. */
export type NodeUnstageVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodePublishVolume. */
export interface NodePublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** As ControllerPublishVolume answered it. */
  readonly publish_context: Readonly<Record<string, string>>;
  /** Where it was staged; required where staging is offered. */
  readonly staging_target_path: string;
  /** The plugin makes its last component. Required. */
  readonly target_path: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Show it for reading only. */
  readonly readonly: boolean;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** As CreateVolume answered it, or the attributes of an inline volume. */
  readonly volume_context: Readonly<Record<string, string>>;
}

/** Spec: NodePublishVolume. */
export type NodePublishVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodeUnpublishVolume. */
export interface NodeUnpublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Removed by the plugin. Required. */
  readonly target_path: string;
}

/** Spec: NodeUnpublishVolume. */
export type NodeUnpublishVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodeGetVolumeStats. */
export interface NodeGetVolumeStatsRequest {
  /** Required. */
  readonly volume_id: string;
  /** A staging or publish path of that volume. Required. */
  readonly volume_path: string;
  /** Where it is staged, if it is. */
  readonly staging_target_path: string;
}

/** Spec: NodeGetVolumeStats. */
export interface NodeGetVolumeStatsResponse {
  /** One entry a unit. */
  readonly usage: readonly VolumeUsage[];
}

/** How full a volume is, in one unit. Spec: NodeGetVolumeStats. */
export interface VolumeUsage {
  /** What an ordinary user can still use. */
  readonly available: bigint;
  /** Required. */
  readonly total: bigint;
  readonly used: bigint;
  /** Required. */
  readonly unit: VolumeUsageUnit | UnknownEnumValue;
}

/** Spec: NodeGetVolumeHealth. Alpha. */
export interface NodeGetVolumeHealthRequest {
  /** Required. */
  readonly volume_id: string;
  /** Where it is, or was to be, published. */
  readonly volume_publish_path: string;
  /** Where it is, or was to be, staged. */
  readonly staging_target_path: string;
}

/** Spec: NodeGetVolumeHealth. Alpha. */
export interface NodeGetVolumeHealthResponse {
  /** Required. */
  readonly volume_health: VolumeHealth | null;
}

/** Spec: NodeGetStorageHealth. Alpha. */
export interface NodeGetStorageHealthRequest {
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: NodeGetStorageHealth. Alpha. */
export interface NodeGetStorageHealthResponse {
  /** Empty: healthy. */
  readonly backend_health: readonly NodeGetStorageHealthResponseStorageBackendHealth[];
}

/** One problem of one backend. */
export interface NodeGetStorageHealthResponseStorageBackendHealth {
  /** Required. */
  readonly status: StorageHealthErrorType | UnknownEnumValue;
  /** One CamelCase word for machines. Required. */
  readonly reason: string;
  /** A sentence for people. */
  readonly message: string;
  /** Which uses of volumes it concerns; absent means all. */
  readonly volume_capability: VolumeCapability | null;
}

/** Spec: NodeGetCapabilities. */
export type NodeGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: NodeGetCapabilities. */
export interface NodeGetCapabilitiesResponse {
  readonly capabilities: readonly NodeServiceCapability[];
}

/** One thing the Node service can do. Spec: NodeGetCapabilities. */
export type NodeServiceCapability = (
  | {
      readonly type: 'rpc';
      readonly rpc: NodeServiceCapabilityRPC;
    }
  | {
      readonly type?: undefined;
      readonly rpc?: never;
    }
);

export interface NodeServiceCapabilityRPC {
  readonly type: NodeServiceCapabilityRPCType | UnknownEnumValue;
}

/** Spec: NodeGetInfo. */
export type NodeGetInfoRequest = Readonly<Record<string, never>>;

/** Spec: NodeGetInfo. */
export interface NodeGetInfoResponse {
  /** At most 256 bytes. Required. */
  readonly node_id: string;
  /** 0 leaves the bound to the CO; negative is refused. */
  readonly max_volumes_per_node: bigint;
  /** Where this node is. */
  readonly accessible_topology: Topology | null;
}

/** Spec: NodeExpandVolume. */
export interface NodeExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** A staging or publish path of that volume. Required. */
  readonly volume_path: string;
  /** New size; absent means the volume's own. */
  readonly capacity_range: CapacityRange | null;
  /** Where it is staged, if it is. */
  readonly staging_target_path: string;
  /** How the volume is used, where the caller knows. */
  readonly volume_capability: VolumeCapability | null;
  /** Secret: masked in every log. Alpha. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: NodeExpandVolume. */
export interface NodeExpandVolumeResponse {
  /** Real size; 0 means unknown. */
  readonly capacity_bytes: bigint;
}

/** Spec: GroupControllerGetCapabilities. */
export type GroupControllerGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: GroupControllerGetCapabilities. */
export interface GroupControllerGetCapabilitiesResponse {
  readonly capabilities: readonly GroupControllerServiceCapability[];
}

/** One thing the GroupController service can do. Spec: GroupControllerGetCapabilities. */
export type GroupControllerServiceCapability = (
  | {
      readonly type: 'rpc';
      readonly rpc: GroupControllerServiceCapabilityRPC;
    }
  | {
      readonly type?: undefined;
      readonly rpc?: never;
    }
);

export interface GroupControllerServiceCapabilityRPC {
  readonly type: GroupControllerServiceCapabilityRPCType | UnknownEnumValue;
}

/** Spec: CreateVolumeGroupSnapshot. */
export interface CreateVolumeGroupSnapshotRequest {
  /** The caller's name, which makes the call idempotent. Required. */
  readonly name: string;
  /** All are cut at one instant. Required. */
  readonly source_volume_ids: readonly string[];
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The group snapshot class's own settings. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Spec: CreateVolumeGroupSnapshot. */
export interface CreateVolumeGroupSnapshotResponse {
  /** Required. */
  readonly group_snapshot: VolumeGroupSnapshot | null;
}

/** A group that exists. Spec: CreateVolumeGroupSnapshot. */
export interface VolumeGroupSnapshot {
  /** The plugin's id, at most 128 bytes. Required. */
  readonly group_snapshot_id: string;
  /** Its members. Required. */
  readonly snapshots: readonly Snapshot[];
  /** The instant all members show. Required. */
  readonly creation_time: Timestamp | null;
  /** Whether every member is ready. */
  readonly ready_to_use: boolean;
}

/** Spec: DeleteVolumeGroupSnapshot. */
export interface DeleteVolumeGroupSnapshotRequest {
  /** Required. */
  readonly group_snapshot_id: string;
  /** Must be exactly the group's members. Required. */
  readonly snapshot_ids: readonly string[];
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: DeleteVolumeGroupSnapshot. */
export type DeleteVolumeGroupSnapshotResponse = Readonly<Record<string, never>>;

/** Spec: GetVolumeGroupSnapshot. */
export interface GetVolumeGroupSnapshotRequest {
  /** Required. */
  readonly group_snapshot_id: string;
  /** Must be exactly the group's members. Required. */
  readonly snapshot_ids: readonly string[];
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: GetVolumeGroupSnapshot. */
export interface GetVolumeGroupSnapshotResponse {
  /** Required. */
  readonly group_snapshot: VolumeGroupSnapshot | null;
}

/** A range of a volume. Spec: Metadata Format. */
export interface BlockMetadata {
  /** Where it begins. */
  readonly byte_offset: bigint;
  /** How long it is; more than 0. */
  readonly size_bytes: bigint;
}

/** Spec: GetMetadataAllocated. */
export interface GetMetadataAllocatedRequest {
  /** Required. */
  readonly snapshot_id: string;
  /** Ranges from here on: that is how a broken stream is resumed. */
  readonly starting_offset: bigint;
  /** Most ranges of one message; 0 leaves it to the plugin. */
  readonly max_results: number;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** One message of the stream. Spec: GetMetadataAllocated. */
export interface GetMetadataAllocatedResponse {
  /** The same in every message. Required. */
  readonly block_metadata_type: BlockMetadataType | UnknownEnumValue;
  /** The same in every message. Required. */
  readonly volume_capacity_bytes: bigint;
  /** Ascending, without overlap. */
  readonly block_metadata: readonly BlockMetadata[];
}

/** Spec: GetMetadataDelta. */
export interface GetMetadataDeltaRequest {
  /** The older one. Required. */
  readonly base_snapshot_id: string;
  /** The newer one, of the same volume. Required. */
  readonly target_snapshot_id: string;
  /** Ranges from here on: that is how a broken stream is resumed. */
  readonly starting_offset: bigint;
  /** Most ranges of one message; 0 leaves it to the plugin. */
  readonly max_results: number;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** One message of the stream. Spec: GetMetadataDelta. */
export interface GetMetadataDeltaResponse {
  /** The same in every message. Required. */
  readonly block_metadata_type: BlockMetadataType | UnknownEnumValue;
  /** The same in every message. Required. */
  readonly volume_capacity_bytes: bigint;
  /** Ascending, without overlap. */
  readonly block_metadata: readonly BlockMetadata[];
}

/** A boolean that can be absent. */
export interface BoolValue {
  readonly value: boolean;
}

/** A number that can be absent. */
export interface Int64Value {
  readonly value: bigint;
}

/** Seconds since 1970 and the nanoseconds of that second. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}
