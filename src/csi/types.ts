// Generated from csi-proto/csi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ServerStream, Unary } from './rpc-kinds.ts';

/** Number of an enum value that this version does not know, from a newer caller. Reject it before switching on the name. */
export type UnknownEnumValue = number;

/** The services of csi.v1, by their full names. */
export interface CsiServices {
  readonly 'csi.v1.Identity': IdentityService;
  readonly 'csi.v1.Controller': ControllerService;
  readonly 'csi.v1.GroupController': GroupControllerService;
  readonly 'csi.v1.SnapshotMetadata': SnapshotMetadataService;
  readonly 'csi.v1.Node': NodeService;
}

/** Identifies the plugin and reports its readiness. Every plugin provides this service. Spec: Identity Service RPC. */
export interface IdentityService {
  /** Returns the plugin's name and version. Spec: GetPluginInfo. */
  readonly GetPluginInfo: Unary<GetPluginInfoRequest, GetPluginInfoResponse>;
  /** Lists the optional services and behaviours of the plugin. Spec: GetPluginCapabilities. */
  readonly GetPluginCapabilities: Unary<GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse>;
  /** Reports whether the plugin can serve calls, regardless of the state of its volumes. Spec: Probe. */
  readonly Probe: Unary<ProbeRequest, ProbeResponse>;
}

/** Manages volumes and snapshots independently of the nodes that use them. Spec: Controller Service RPC. */
export interface ControllerService {
  /** Creates a volume, or returns the existing one of that name. Spec: CreateVolume. */
  readonly CreateVolume: Unary<CreateVolumeRequest, CreateVolumeResponse>;
  /** Deletes a volume. Succeeds if it does not exist. Spec: DeleteVolume. */
  readonly DeleteVolume: Unary<DeleteVolumeRequest, DeleteVolumeResponse>;
  /** Attaches a volume to a node. Spec: ControllerPublishVolume. */
  readonly ControllerPublishVolume: Unary<ControllerPublishVolumeRequest, ControllerPublishVolumeResponse>;
  /** Detaches a volume from a node. Spec: ControllerUnpublishVolume. */
  readonly ControllerUnpublishVolume: Unary<ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse>;
  /** Checks whether a volume supports the given capabilities. Spec: ValidateVolumeCapabilities. */
  readonly ValidateVolumeCapabilities: Unary<ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse>;
  /** Lists all volumes, one page per call. Spec: ListVolumes. */
  readonly ListVolumes: Unary<ListVolumesRequest, ListVolumesResponse>;
  /** Lists the volumes that have problems, one page per call. Spec: ControllerListVolumeHealth. Alpha. */
  readonly ControllerListVolumeHealth: Unary<ControllerListVolumeHealthRequest, ControllerListVolumeHealthResponse>;
  /** Returns the health of one volume. Spec: ControllerGetVolumeHealth. Alpha. */
  readonly ControllerGetVolumeHealth: Unary<ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse>;
  /** Returns the capacity that can still be provisioned. Spec: GetCapacity. */
  readonly GetCapacity: Unary<GetCapacityRequest, GetCapacityResponse>;
  /** Lists the optional calls of this service. Spec: ControllerGetCapabilities. */
  readonly ControllerGetCapabilities: Unary<ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse>;
  /** Takes a snapshot of a volume, or returns the existing one of that name. Spec: CreateSnapshot. */
  readonly CreateSnapshot: Unary<CreateSnapshotRequest, CreateSnapshotResponse>;
  /** Deletes a snapshot. Succeeds if it does not exist. Spec: DeleteSnapshot. */
  readonly DeleteSnapshot: Unary<DeleteSnapshotRequest, DeleteSnapshotResponse>;
  /** Lists the snapshots that match the filters, one page per call. Spec: ListSnapshots. */
  readonly ListSnapshots: Unary<ListSnapshotsRequest, ListSnapshotsResponse>;
  /** Returns one snapshot. Spec: GetSnapshot. Alpha. */
  readonly GetSnapshot: Unary<GetSnapshotRequest, GetSnapshotResponse>;
  /** Grows a volume. Spec: ControllerExpandVolume. */
  readonly ControllerExpandVolume: Unary<ControllerExpandVolumeRequest, ControllerExpandVolumeResponse>;
  /** Returns one volume. Spec: ControllerGetVolume. Alpha. */
  readonly ControllerGetVolume: Unary<ControllerGetVolumeRequest, ControllerGetVolumeResponse>;
  /** Changes a volume's mutable parameters. Spec: ControllerModifyVolume. */
  readonly ControllerModifyVolume: Unary<ControllerModifyVolumeRequest, ControllerModifyVolumeResponse>;
}

/** Takes snapshots of several volumes at one point in time. Spec: Group Controller Service RPCs. */
export interface GroupControllerService {
  /** Lists the optional calls of this service. Spec: GroupControllerGetCapabilities. */
  readonly GroupControllerGetCapabilities: Unary<GroupControllerGetCapabilitiesRequest, GroupControllerGetCapabilitiesResponse>;
  /** Takes a snapshot of each source volume, or returns the existing group of that name. Spec: CreateVolumeGroupSnapshot. */
  readonly CreateVolumeGroupSnapshot: Unary<CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse>;
  /** Deletes a group snapshot and its members. Spec: DeleteVolumeGroupSnapshot. */
  readonly DeleteVolumeGroupSnapshot: Unary<DeleteVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotResponse>;
  /** Returns one group snapshot. Spec: GetVolumeGroupSnapshot. */
  readonly GetVolumeGroupSnapshot: Unary<GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse>;
}

/** Lists the allocated or changed blocks of snapshots, for backup software. Spec: Snapshot Metadata Service RPCs. Alpha. */
export interface SnapshotMetadataService {
  /** Lists the allocated ranges of a snapshot. Spec: GetMetadataAllocated. */
  readonly GetMetadataAllocated: ServerStream<GetMetadataAllocatedRequest, GetMetadataAllocatedResponse>;
  /** Lists the ranges in which two snapshots of a volume differ. Spec: GetMetadataDelta. */
  readonly GetMetadataDelta: ServerStream<GetMetadataDeltaRequest, GetMetadataDeltaResponse>;
}

/** Makes volumes available on the node where they are used. Spec: Node Service RPC. */
export interface NodeService {
  /** Prepares a volume at a staging path, once per node. Spec: NodeStageVolume. */
  readonly NodeStageVolume: Unary<NodeStageVolumeRequest, NodeStageVolumeResponse>;
  /** Undoes NodeStageVolume. Spec: NodeUnstageVolume. */
  readonly NodeUnstageVolume: Unary<NodeUnstageVolumeRequest, NodeUnstageVolumeResponse>;
  /** Makes a volume available at a workload's target path. Spec: NodePublishVolume. */
  readonly NodePublishVolume: Unary<NodePublishVolumeRequest, NodePublishVolumeResponse>;
  /** Undoes NodePublishVolume and removes the target path. Spec: NodeUnpublishVolume. */
  readonly NodeUnpublishVolume: Unary<NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse>;
  /** Returns the usage of a volume in bytes and inodes. Spec: NodeGetVolumeStats. */
  readonly NodeGetVolumeStats: Unary<NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse>;
  /** Returns the health of one volume as the node sees it. Spec: NodeGetVolumeHealth. Alpha. */
  readonly NodeGetVolumeHealth: Unary<NodeGetVolumeHealthRequest, NodeGetVolumeHealthResponse>;
  /** Returns the health of the storage backend as the node sees it. Spec: NodeGetStorageHealth. Alpha. */
  readonly NodeGetStorageHealth: Unary<NodeGetStorageHealthRequest, NodeGetStorageHealthResponse>;
  /** Grows a volume's device and filesystem on the node. Spec: NodeExpandVolume. */
  readonly NodeExpandVolume: Unary<NodeExpandVolumeRequest, NodeExpandVolumeResponse>;
  /** Lists the optional calls of this service. Spec: NodeGetCapabilities. */
  readonly NodeGetCapabilities: Unary<NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse>;
  /** Returns the id, volume limit and topology of this node. Spec: NodeGetInfo. */
  readonly NodeGetInfo: Unary<NodeGetInfoRequest, NodeGetInfoResponse>;
}

export type PluginCapabilityServiceType =
  | 'UNKNOWN'
  /** The Controller service is served. */
  | 'CONTROLLER_SERVICE'
  /** Not every node can access every volume, so the CO must consider topology. */
  | 'VOLUME_ACCESSIBILITY_CONSTRAINTS'
  /** The GroupController service is served. */
  | 'GROUP_CONTROLLER_SERVICE'
  /** The SnapshotMetadata service is served. Alpha. */
  | 'SNAPSHOT_METADATA_SERVICE'
  /** Not every node can access every snapshot. Alpha. */
  | 'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS';

export type PluginCapabilityVolumeExpansionType =
  | 'UNKNOWN'
  /** Volumes can be expanded at any time, even while published. */
  | 'ONLINE'
  /** Volumes can be expanded only while unpublished. */
  | 'OFFLINE';

export type VolumeCapabilityAccessModeMode =
  | 'UNKNOWN'
  /** One node, reading and writing. */
  | 'SINGLE_NODE_WRITER'
  /** One node, reading. */
  | 'SINGLE_NODE_READER_ONLY'
  /** Several nodes, reading. */
  | 'MULTI_NODE_READER_ONLY'
  /** Several nodes, one of them writing. */
  | 'MULTI_NODE_SINGLE_WRITER'
  /** Several nodes, all of them writing. */
  | 'MULTI_NODE_MULTI_WRITER'
  /** One node, writing at one path. Alpha. */
  | 'SINGLE_NODE_SINGLE_WRITER'
  /** One node, writing at several paths. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER';

/** Severity of a problem with a volume. Spec: ControllerListVolumeHealth. */
export type VolumeHealthErrorType =
  | 'UNKNOWN_VOLUME_HEALTH_TYPE'
  /** The volume works with restrictions. */
  | 'DEGRADED'
  /** The volume cannot be read or written at present. */
  | 'INACCESSIBLE'
  /** Data has been lost. */
  | 'DATA_LOSS';

export type ControllerServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'CREATE_DELETE_VOLUME'
  | 'PUBLISH_UNPUBLISH_VOLUME'
  | 'LIST_VOLUMES'
  | 'GET_CAPACITY'
  | 'CREATE_DELETE_SNAPSHOT'
  | 'LIST_SNAPSHOTS'
  /** CreateVolume accepts a volume as the source. */
  | 'CLONE_VOLUME'
  /** ControllerPublishVolume can attach read-only. */
  | 'PUBLISH_READONLY'
  | 'EXPAND_VOLUME'
  /** ListVolumes returns the nodes to which each volume is attached. */
  | 'LIST_VOLUMES_PUBLISHED_NODES'
  /** Alpha. */
  | 'GET_VOLUME'
  /** The access modes SINGLE_NODE_SINGLE_WRITER and SINGLE_NODE_MULTI_WRITER are supported. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER'
  | 'MODIFY_VOLUME'
  /** Alpha. */
  | 'GET_SNAPSHOT'
  /** Alpha. */
  | 'GET_VOLUME_HEALTH'
  /** Requires GET_VOLUME_HEALTH. Alpha. */
  | 'LIST_VOLUME_HEALTH';

export type VolumeUsageUnit =
  | 'UNKNOWN'
  | 'BYTES'
  | 'INODES';

/** Severity of a problem with a storage backend. Spec: NodeGetStorageHealth. */
export type StorageHealthErrorType =
  | 'UNKNOWN_STORAGE_HEALTH_ERROR_TYPE'
  /** The backend works with restrictions. */
  | 'STORAGE_DEGRADED'
  /** The backend cannot be reached from this node. */
  | 'STORAGE_UNREACHABLE';

export type NodeServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'STAGE_UNSTAGE_VOLUME'
  | 'GET_VOLUME_STATS'
  | 'EXPAND_VOLUME'
  /** The access modes SINGLE_NODE_SINGLE_WRITER and SINGLE_NODE_MULTI_WRITER are supported. Alpha. */
  | 'SINGLE_NODE_MULTI_WRITER'
  /** `volume_mount_group` is supported, so the CO leaves file ownership to the plugin. */
  | 'VOLUME_MOUNT_GROUP'
  /** Alpha. */
  | 'GET_VOLUME_HEALTH'
  /** Alpha. */
  | 'GET_STORAGE_HEALTH';

export type GroupControllerServiceCapabilityRPCType =
  | 'UNKNOWN'
  | 'CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT';

/** Whether all ranges of a stream have the same length. Spec: Metadata Format. */
export type BlockMetadataType =
  | 'UNKNOWN'
  | 'FIXED_LENGTH'
  | 'VARIABLE_LENGTH';

/** Spec: GetPluginInfo. */
export type GetPluginInfoRequest = Readonly<Record<string, never>>;

/** Spec: GetPluginInfo. */
export interface GetPluginInfoResponse {
  /** Stable name in the form of a domain name, at most 63 characters. Required. */
  readonly name: string;
  /** Version of the plugin, in any format. Required. */
  readonly vendor_version: string;
  /** Additional information that the CO does not interpret. */
  readonly manifest: Readonly<Record<string, string>>;
}

/** Spec: GetPluginCapabilities. */
export type GetPluginCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: GetPluginCapabilities. */
export interface GetPluginCapabilitiesResponse {
  readonly capabilities: readonly PluginCapability[];
}

/** A capability of the whole plugin. Spec: GetPluginCapabilities. */
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

/** An optional service, or a behaviour that affects several services. */
export interface PluginCapabilityService {
  readonly type: PluginCapabilityServiceType | UnknownEnumValue;
}

/** Whether volumes can be expanded while they are in use. */
export interface PluginCapabilityVolumeExpansion {
  readonly type: PluginCapabilityVolumeExpansionType | UnknownEnumValue;
}

/** Spec: Probe. */
export type ProbeRequest = Readonly<Record<string, never>>;

/** Spec: Probe. */
export interface ProbeResponse {
  /** false while the plugin is starting. Absent means true. */
  readonly ready: BoolValue | null;
}

/** Spec: CreateVolume. */
export interface CreateVolumeRequest {
  /** Name chosen by the caller, which makes retries idempotent. Required. */
  readonly name: string;
  /** Requested size; if absent, the plugin chooses. */
  readonly capacity_range: CapacityRange | null;
  /** The new volume must support all of these. Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  /** Plugin-specific parameters; in Kubernetes, those of the StorageClass. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Source of the volume's content; absent for an empty volume. */
  readonly volume_content_source: VolumeContentSource | null;
  /** Topology in which the volume must or should be accessible. */
  readonly accessibility_requirements: TopologyRequirement | null;
  /** Parameters that can be changed later. They take precedence over `parameters`. */
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** The snapshot or volume that a new volume is copied from. Spec: CreateVolume. */
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

/** How a workload uses a volume: access type and access mode. Spec: CreateVolume. */
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

/** Access as a raw block device. */
export type VolumeCapabilityBlockVolume = Readonly<Record<string, never>>;

/** Access through a mounted filesystem. */
export interface VolumeCapabilityMountVolume {
  /** Filesystem type; if empty, the plugin chooses. */
  readonly fs_type: string;
  /** Mount options; they may be sensitive. At most 4 KiB in total. */
  readonly mount_flags: readonly string[];
  /** Group that owns the files; used only with VOLUME_MOUNT_GROUP. */
  readonly volume_mount_group: string;
}

/** How many nodes and writers may use the volume at the same time. */
export interface VolumeCapabilityAccessMode {
  /** Required. */
  readonly mode: VolumeCapabilityAccessModeMode | UnknownEnumValue;
}

/** A size in bytes with an inclusive minimum and maximum; 0 means no limit. Spec: CreateVolume. */
export interface CapacityRange {
  readonly required_bytes: bigint;
  readonly limit_bytes: bigint;
}

/** An existing volume. Spec: CreateVolume. */
export interface Volume {
  /** Actual size; 0 means unknown. */
  readonly capacity_bytes: bigint;
  /** Id assigned by the plugin, at most 128 bytes. Required. */
  readonly volume_id: string;
  /** Attributes that the CO passes unchanged to later calls for this volume. */
  readonly volume_context: Readonly<Record<string, string>>;
  /** Content source from the request. */
  readonly content_source: VolumeContentSource | null;
  /** Topologies from which the volume is accessible. */
  readonly accessible_topology: readonly Topology[];
}

/** The topology in which a volume or snapshot must or should be accessible. Spec: CreateVolume. */
export interface TopologyRequirement {
  /** The volume or snapshot must be accessible from at least one of these. */
  readonly requisite: readonly Topology[];
  /** Preferred topologies, best first. */
  readonly preferred: readonly Topology[];
}

/** A part of the cluster, such as a zone or node, identified by all of its key-value pairs. Spec: CreateVolume. */
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
  /** Node id from NodeGetInfo. Required. */
  readonly node_id: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Whether to attach read-only. */
  readonly readonly: boolean;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** `volume_context` from CreateVolume. */
  readonly volume_context: Readonly<Record<string, string>>;
}

/** Spec: ControllerPublishVolume. */
export interface ControllerPublishVolumeResponse {
  /** Attributes that the CO passes to the staging and publishing calls of the Node service. */
  readonly publish_context: Readonly<Record<string, string>>;
}

/** Spec: ControllerUnpublishVolume. */
export interface ControllerUnpublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Empty means all nodes. */
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
  /** `volume_context` from CreateVolume. */
  readonly volume_context: Readonly<Record<string, string>>;
  /** Capabilities that the volume must support together. Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Readonly<Record<string, string>>;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ValidateVolumeCapabilities. */
export interface ValidateVolumeCapabilitiesResponse {
  /** Present only if the volume supports the whole request. */
  readonly confirmed: ValidateVolumeCapabilitiesResponseConfirmed | null;
  /** Why the request was not confirmed, for the operator. */
  readonly message: string;
}

/** Request fields that the plugin confirms. */
export interface ValidateVolumeCapabilitiesResponseConfirmed {
  readonly volume_context: Readonly<Record<string, string>>;
  /** Required. */
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Readonly<Record<string, string>>;
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ListVolumes. */
export interface ListVolumesRequest {
  /** Maximum number of entries per page. 0 means no limit; a negative number is an error. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
  readonly starting_token: string;
}

/** Spec: ListVolumes. */
export interface ListVolumesResponse {
  readonly entries: readonly ListVolumesResponseEntry[];
  /** Empty on the last page. */
  readonly next_token: string;
}

/** Current state of a volume. */
export interface ListVolumesResponseVolumeStatus {
  /** Nodes to which the volume is attached; set only with LIST_VOLUMES_PUBLISHED_NODES. */
  readonly published_node_ids: readonly string[];
}

export interface ListVolumesResponseEntry {
  /** Required. */
  readonly volume: Volume | null;
  readonly status: ListVolumesResponseVolumeStatus | null;
}

/** Spec: ControllerListVolumeHealth. Alpha. */
export interface ControllerListVolumeHealthRequest {
  /** Maximum number of entries per page; 0 means no limit. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
  readonly starting_token: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: ControllerListVolumeHealth. Alpha. */
export interface ControllerListVolumeHealthResponse {
  /** Volumes with problems; healthy volumes are omitted. */
  readonly entries: readonly VolumeHealth[];
  /** Empty on the last page. */
  readonly next_token: string;
}

/** A volume and its problems. Spec: ControllerListVolumeHealth. Alpha. */
export interface VolumeHealth {
  /** Required. */
  readonly volume_id: string;
  /** Empty if healthy. */
  readonly health_statuses: readonly VolumeHealthVolumeHealthEntry[];
}

/** A problem with the volume. Each pair of status and reason appears only once. */
export interface VolumeHealthVolumeHealthEntry {
  /** Required. */
  readonly status: VolumeHealthErrorType | UnknownEnumValue;
  /** Machine-readable cause in CamelCase. Required. */
  readonly reason: string;
  /** Explanation for the operator. */
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

/** Current state of the volume. */
export interface ControllerGetVolumeResponseVolumeStatus {
  /** Nodes to which the volume is attached. */
  readonly published_node_ids: readonly string[];
}

/** Spec: ControllerModifyVolume. */
export interface ControllerModifyVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Parameters to change; all others keep their values. Required. */
  readonly mutable_parameters: Readonly<Record<string, string>>;
}

/** Spec: ControllerModifyVolume. */
export type ControllerModifyVolumeResponse = Readonly<Record<string, never>>;

/** Spec: GetCapacity. */
export interface GetCapacityRequest {
  /** Count only capacity for volumes that support all of these capabilities. */
  readonly volume_capabilities: readonly VolumeCapability[];
  /** Count only capacity for volumes with these plugin-specific parameters. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Count only capacity accessible from this topology. */
  readonly accessible_topology: Topology | null;
}

/** Spec: GetCapacity. */
export interface GetCapacityResponse {
  /** Bytes that can still be provisioned. Required. */
  readonly available_capacity: bigint;
  /** Size of the largest volume that can be created, if known. */
  readonly maximum_volume_size: Int64Value | null;
  /** Size of the smallest volume that can be created, if known. Alpha. */
  readonly minimum_volume_size: Int64Value | null;
}

/** Spec: ControllerGetCapabilities. */
export type ControllerGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: ControllerGetCapabilities. */
export interface ControllerGetCapabilitiesResponse {
  readonly capabilities: readonly ControllerServiceCapability[];
}

/** A capability of the Controller service. Spec: ControllerGetCapabilities. */
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
  /** Name chosen by the caller, which makes retries idempotent. Required. */
  readonly name: string;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Plugin-specific parameters; in Kubernetes, those of the VolumeSnapshotClass. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Topology in which the snapshot must or should be accessible. Alpha. */
  readonly accessibility_requirements: TopologyRequirement | null;
}

/** Spec: CreateSnapshot. */
export interface CreateSnapshotResponse {
  /** Required. */
  readonly snapshot: Snapshot | null;
}

/** An existing snapshot. Spec: CreateSnapshot. */
export interface Snapshot {
  /** Minimum size of a volume restored from the snapshot; 0 means unknown. */
  readonly size_bytes: bigint;
  /** Id assigned by the plugin, at most 128 bytes. Required. */
  readonly snapshot_id: string;
  /** Required. */
  readonly source_volume_id: string;
  /** Point in time that the snapshot captures. Required. */
  readonly creation_time: Timestamp | null;
  /** Whether a volume can be created from the snapshot now. Spec: The ready_to_use Parameter. */
  readonly ready_to_use: boolean;
  /** Group that the snapshot belongs to, if any. */
  readonly group_snapshot_id: string;
  /** Topologies in which the snapshot can be restored. Alpha. */
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

/** A snapshot must match all filters; without a match, the page is empty. Spec: ListSnapshots. */
export interface ListSnapshotsRequest {
  /** Maximum number of entries per page. 0 means no limit; a negative number is an error. */
  readonly max_entries: number;
  /** `next_token` of the previous page; empty for the first page. */
  readonly starting_token: string;
  /** Return only snapshots of this volume; empty means all. */
  readonly source_volume_id: string;
  /** Return only this snapshot; empty means all. */
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
  /** How the volume is used, if known. */
  readonly volume_capability: VolumeCapability | null;
}

/** Spec: ControllerExpandVolume. */
export interface ControllerExpandVolumeResponse {
  /** New actual size. Required. */
  readonly capacity_bytes: bigint;
  /** Whether the CO must call NodeExpandVolume. Required. */
  readonly node_expansion_required: boolean;
}

/** Spec: NodeStageVolume. */
export interface NodeStageVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** `publish_context` from ControllerPublishVolume. */
  readonly publish_context: Readonly<Record<string, string>>;
  /** Directory to stage at, created by the caller. Required. */
  readonly staging_target_path: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** `volume_context` from CreateVolume. */
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
  /** `publish_context` from ControllerPublishVolume. */
  readonly publish_context: Readonly<Record<string, string>>;
  /** The staging path; required with STAGE_UNSTAGE_VOLUME. */
  readonly staging_target_path: string;
  /** Path to publish at; the plugin creates its last component. Required. */
  readonly target_path: string;
  /** Required. */
  readonly volume_capability: VolumeCapability | null;
  /** Whether to publish the volume read-only. */
  readonly readonly: boolean;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** `volume_context` from CreateVolume, or the attributes of an inline volume. */
  readonly volume_context: Readonly<Record<string, string>>;
}

/** Spec: NodePublishVolume. */
export type NodePublishVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodeUnpublishVolume. */
export interface NodeUnpublishVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** Path to unpublish; the plugin removes it. Required. */
  readonly target_path: string;
}

/** Spec: NodeUnpublishVolume. */
export type NodeUnpublishVolumeResponse = Readonly<Record<string, never>>;

/** Spec: NodeGetVolumeStats. */
export interface NodeGetVolumeStatsRequest {
  /** Required. */
  readonly volume_id: string;
  /** A path where the volume is staged or published. Required. */
  readonly volume_path: string;
  /** The staging path, if the volume is staged. */
  readonly staging_target_path: string;
}

/** Spec: NodeGetVolumeStats. */
export interface NodeGetVolumeStatsResponse {
  /** At most one entry per unit. */
  readonly usage: readonly VolumeUsage[];
}

/** Usage of a volume in one unit. Spec: NodeGetVolumeStats. */
export interface VolumeUsage {
  /** Amount available to unprivileged users. */
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
  /** Path where the volume is or will be published. */
  readonly volume_publish_path: string;
  /** Path where the volume is or will be staged. */
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
  /** Empty if healthy. */
  readonly backend_health: readonly NodeGetStorageHealthResponseStorageBackendHealth[];
}

/** A problem with a storage backend. */
export interface NodeGetStorageHealthResponseStorageBackendHealth {
  /** Required. */
  readonly status: StorageHealthErrorType | UnknownEnumValue;
  /** Machine-readable cause in CamelCase. Required. */
  readonly reason: string;
  /** Explanation for the operator. */
  readonly message: string;
  /** Affected capability; absent means all. */
  readonly volume_capability: VolumeCapability | null;
}

/** Spec: NodeGetCapabilities. */
export type NodeGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: NodeGetCapabilities. */
export interface NodeGetCapabilitiesResponse {
  readonly capabilities: readonly NodeServiceCapability[];
}

/** A capability of the Node service. Spec: NodeGetCapabilities. */
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
  /** Id of this node, at most 256 bytes. Required. */
  readonly node_id: string;
  /** If 0, the CO chooses the limit. A negative number is an error. */
  readonly max_volumes_per_node: bigint;
  /** The topology of this node. */
  readonly accessible_topology: Topology | null;
}

/** Spec: NodeExpandVolume. */
export interface NodeExpandVolumeRequest {
  /** Required. */
  readonly volume_id: string;
  /** A path where the volume is staged or published. Required. */
  readonly volume_path: string;
  /** New size; if absent, the current size of the volume. */
  readonly capacity_range: CapacityRange | null;
  /** The staging path, if the volume is staged. */
  readonly staging_target_path: string;
  /** How the volume is used, if known. */
  readonly volume_capability: VolumeCapability | null;
  /** Secret: masked in every log. Alpha. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: NodeExpandVolume. */
export interface NodeExpandVolumeResponse {
  /** Actual size; 0 means unknown. */
  readonly capacity_bytes: bigint;
}

/** Spec: GroupControllerGetCapabilities. */
export type GroupControllerGetCapabilitiesRequest = Readonly<Record<string, never>>;

/** Spec: GroupControllerGetCapabilities. */
export interface GroupControllerGetCapabilitiesResponse {
  readonly capabilities: readonly GroupControllerServiceCapability[];
}

/** A capability of the GroupController service. Spec: GroupControllerGetCapabilities. */
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
  /** Name chosen by the caller, which makes retries idempotent. Required. */
  readonly name: string;
  /** Volumes to capture at one point in time. Required. */
  readonly source_volume_ids: readonly string[];
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Plugin-specific parameters; in Kubernetes, those of the VolumeGroupSnapshotClass. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Spec: CreateVolumeGroupSnapshot. */
export interface CreateVolumeGroupSnapshotResponse {
  /** Required. */
  readonly group_snapshot: VolumeGroupSnapshot | null;
}

/** An existing group snapshot. Spec: CreateVolumeGroupSnapshot. */
export interface VolumeGroupSnapshot {
  /** Id assigned by the plugin, at most 128 bytes. Required. */
  readonly group_snapshot_id: string;
  /** Members of the group. Required. */
  readonly snapshots: readonly Snapshot[];
  /** Point in time that all members capture. Required. */
  readonly creation_time: Timestamp | null;
  /** Whether every member is ready. */
  readonly ready_to_use: boolean;
}

/** Spec: DeleteVolumeGroupSnapshot. */
export interface DeleteVolumeGroupSnapshotRequest {
  /** Required. */
  readonly group_snapshot_id: string;
  /** Ids of exactly the group's members. Required. */
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
  /** Ids of exactly the group's members. Required. */
  readonly snapshot_ids: readonly string[];
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Spec: GetVolumeGroupSnapshot. */
export interface GetVolumeGroupSnapshotResponse {
  /** Required. */
  readonly group_snapshot: VolumeGroupSnapshot | null;
}

/** A byte range of a volume. Spec: Metadata Format. */
export interface BlockMetadata {
  /** Offset of the first byte. */
  readonly byte_offset: bigint;
  /** Length in bytes, greater than 0. */
  readonly size_bytes: bigint;
}

/** Spec: GetMetadataAllocated. */
export interface GetMetadataAllocatedRequest {
  /** Required. */
  readonly snapshot_id: string;
  /** Byte offset at which to start, so that a caller can resume an interrupted stream. */
  readonly starting_offset: bigint;
  /** Maximum number of ranges per message; if 0, the plugin chooses. */
  readonly max_results: number;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** One message of the stream. Spec: GetMetadataAllocated. */
export interface GetMetadataAllocatedResponse {
  /** The same in every message of the stream. Required. */
  readonly block_metadata_type: BlockMetadataType | UnknownEnumValue;
  /** The same in every message of the stream. Required. */
  readonly volume_capacity_bytes: bigint;
  /** Ranges in ascending order, without overlap. */
  readonly block_metadata: readonly BlockMetadata[];
}

/** Spec: GetMetadataDelta. */
export interface GetMetadataDeltaRequest {
  /** The older snapshot. Required. */
  readonly base_snapshot_id: string;
  /** The newer snapshot of the same volume. Required. */
  readonly target_snapshot_id: string;
  /** Byte offset at which to start, so that a caller can resume an interrupted stream. */
  readonly starting_offset: bigint;
  /** Maximum number of ranges per message; if 0, the plugin chooses. */
  readonly max_results: number;
  /** Secret: masked in every log. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** One message of the stream. Spec: GetMetadataDelta. */
export interface GetMetadataDeltaResponse {
  /** The same in every message of the stream. Required. */
  readonly block_metadata_type: BlockMetadataType | UnknownEnumValue;
  /** The same in every message of the stream. Required. */
  readonly volume_capacity_bytes: bigint;
  /** Ranges in ascending order, without overlap. */
  readonly block_metadata: readonly BlockMetadata[];
}

/** A boolean that can be absent. */
export interface BoolValue {
  readonly value: boolean;
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
