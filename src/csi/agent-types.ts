// Generated from csi-proto/agent.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { ServerStream, Unary } from './rpc-kinds.ts';

/** The services of loopcsi.agent.v1, by their full names. */
export interface AgentServices {
  readonly 'loopcsi.agent.v1.Agent': AgentService;
  readonly 'loopcsi.agent.v1.Sources': SourcesService;
}

/** Served only to the controller, on the agent's network address and never on the CSI socket. */
export interface AgentService {
  /** Says which node this is, what it has and which version it speaks. The controller asks it on every connection and once a minute. */
  readonly Hello: Unary<HelloRequest, HelloResponse>;
  /** Allows one other node to read a snapshot or volume of this node for a while. NOT_FOUND if this node does not have it. */
  readonly OpenSource: Unary<OpenSourceRequest, OpenSourceResponse>;
  /** Says where this node may read a snapshot or volume of another node. The next CreateVolume of that copy reads it there. */
  readonly OfferSource: Unary<OfferSourceRequest, OfferSourceResponse>;
  /** The copy exists: what this node has kept for it is removed. */
  readonly CloseSource: Unary<CloseSourceRequest, CloseSourceResponse>;
  /** Takes the part of a group snapshot over several nodes that is on this node, step by step. The stream is the lease of the freeze: when it ends, the node thaws, and keeps nothing that was not prepared or committed. Only one message comes, before the first step. */
  readonly TakeGroupPart: ServerStream<TakeGroupPartRequest, TakeGroupPartResponse>;
  /** Lets a part make one step, and answers when it is made. */
  readonly AdvanceGroupPart: Unary<AdvanceGroupPartRequest, AdvanceGroupPartResponse>;
  /** Whether a group exists, asked of the node that keeps its record. */
  readonly FindGroup: Unary<FindGroupRequest, FindGroupResponse>;
  /** The group exists: the members that its attempt has prepared on this node are used from now on. */
  readonly SettleGroupPart: Unary<SettleGroupPartRequest, SettleGroupPartResponse>;
  /** The group does not exist: removes its members on this node. */
  readonly RemoveGroupPart: Unary<RemoveGroupPartRequest, RemoveGroupPartResponse>;
}

/** Served only to other agents, on the agent's network address: the sources that the controller has opened for them. Their data is read without gRPC (src/rpc/agent/frames.ts). */
export interface SourcesService {
  /** What a new volume has to know before the data is read. */
  readonly Describe: Unary<DescribeRequest, DescribeResponse>;
}

export interface HelloRequest {
  /** Version of this interface that the controller speaks. */
  readonly api_version: number;
  /** Version of the controller, for the log. */
  readonly controller_version: string;
}

export interface HelloResponse {
  /** Version of this interface that the agent speaks. Versions only add calls and fields. */
  readonly api_version: number;
  /** Version of the driver. */
  readonly version: string;
  readonly driver_name: string;
  /** The node's id, as in NodeGetInfo. */
  readonly node_id: string;
  /** The end of the ids of the node's volumes, snapshots and groups: a hash of node_id. */
  readonly node_tag: string;
  /** The node's topology segments, as in NodeGetInfo. */
  readonly segments: Readonly<Record<string, string>>;
  /** The pools that the agent serves now. */
  readonly pools: readonly Pool[];
  /** Ids of volumes, snapshots and groups that the node has although they end in another node's tag. */
  readonly foreign_ids: readonly string[];
  /** The number of its volumes, inline volumes included; absent if the driver is older than this field. */
  readonly volume_count: Int64Value | null;
  /** IP addresses of the node, from which it connects to other agents. Empty if it allows no copies between nodes, or if its driver is older than this field. */
  readonly peer_addresses: readonly string[];
  /** Groups over several nodes of which the node has prepared members and does not know whether they exist. */
  readonly undecided_groups: readonly UndecidedGroup[];
}

export interface UndecidedGroup {
  readonly group_id: string;
  /** Identifies one attempt to take the group. */
  readonly attempt: string;
}

export interface Pool {
  readonly name: string;
  readonly uuid: string;
}

/** A source and what it is read for. */
export interface Source {
  /** `snapshot` or `volume`. */
  readonly kind: string;
  readonly id: string;
  /** The name of the volume that is made of it. */
  readonly copy_name: string;
}

export interface OpenSourceRequest {
  readonly source: Source | null;
  /** IP addresses of the node that may read it. */
  readonly peer_addresses: readonly string[];
}

export interface OpenSourceResponse {
  /** Proves to this agent that the controller allows the reading. Valid for one source, one copy, one node, and six hours. Secret: masked in every log. */
  readonly ticket: string;
}

export interface OfferSourceRequest {
  readonly source: Source | null;
  /** The node's id and the address of its agent, HOST:PORT. */
  readonly node_id: string;
  readonly address: string;
  /** Secret: masked in every log. */
  readonly ticket: string;
}

export type OfferSourceResponse = Readonly<Record<string, never>>;

export interface CloseSourceRequest {
  readonly source: Source | null;
}

export type CloseSourceResponse = Readonly<Record<string, never>>;

export interface TakeGroupPartRequest {
  readonly group_id: string;
  /** Identifies this attempt; random. */
  readonly attempt: string;
  /** The name of the group. */
  readonly name: string;
  /** The volumes of this node. */
  readonly source_volume_ids: readonly string[];
  readonly parameters: Readonly<Record<string, string>>;
  /** All volumes of the group, if this node keeps its record; empty for the other nodes. */
  readonly group_volume_ids: readonly string[];
}

export interface TakeGroupPartResponse {
  /** The group exists; no step follows. */
  readonly exists: boolean;
  /** Of the group that exists. */
  readonly attempt: string;
  readonly snapshot_ids: readonly string[];
  /** Block volumes in use, which cannot be frozen; of a part that is planned. */
  readonly live_volume_ids: readonly string[];
}

export interface AdvanceGroupPartRequest {
  readonly attempt: string;
  /** `flush`, `freeze`, `cut`, `thaw`, and then `prepare`, or `commit` on the node that keeps the record. */
  readonly step: string;
  /** Of `prepare` and `commit`: when the group was taken, the same for all members. */
  readonly created_at_ms: bigint;
  /** Of `commit`: for how long filesystems were frozen, on any node. */
  readonly frozen_ms: bigint;
  /** Of `commit`: the members on other nodes. */
  readonly elsewhere: readonly GroupMember[];
}

export interface AdvanceGroupPartResponse {
  /** Of `thaw`: for how long filesystems of this node were frozen. */
  readonly frozen_ms: bigint;
  /** Of `prepare` and `commit`: the members on this node. */
  readonly members: readonly GroupMember[];
}

export interface GroupMember {
  readonly snapshot_id: string;
  readonly source_volume_id: string;
  readonly size_bytes: bigint;
  readonly node_id: string;
}

export interface FindGroupRequest {
  readonly group_id: string;
}

export interface FindGroupResponse {
  /** `exists`, `running` while it is being taken or deleted, or `none`. */
  readonly state: string;
  /** Of a group that exists: the attempt that took it. */
  readonly attempt: string;
}

export interface SettleGroupPartRequest {
  readonly group_id: string;
  readonly attempt: string;
  /** The members that the node must have, if that is known. */
  readonly snapshot_ids: readonly string[];
}

export type SettleGroupPartResponse = Readonly<Record<string, never>>;

export interface RemoveGroupPartRequest {
  readonly group_id: string;
  /** Removes only what this attempt has prepared; empty if the group was deleted. */
  readonly attempt: string;
  /** The members of a group that was deleted. */
  readonly snapshot_ids: readonly string[];
}

export type RemoveGroupPartResponse = Readonly<Record<string, never>>;

export interface DescribeRequest {
  /** Secret: masked in every log. */
  readonly ticket: string;
  readonly source: Source | null;
  /** The state of an interrupted copy that can go on; empty if the copy begins, so that a volume is captured anew. */
  readonly state: string;
}

export interface DescribeResponse {
  /** Identifies the data: if it differs, what was read earlier is of no use. */
  readonly state: string;
  /** `mount` or `block`. */
  readonly kind: string;
  /** The filesystem in the image, also of a block volume; empty if there is none. */
  readonly fs_type: string;
  readonly sector_size: number;
  /** `thin` or `thick`. */
  readonly provisioning: string;
  readonly size_bytes: bigint;
  readonly allocated_bytes: bigint;
  /** How far the filesystem can grow at once; absent if there is no limit. */
  readonly growth_limit: GrowthLimit | null;
}

export interface GrowthLimit {
  readonly max_bytes: bigint;
  readonly factor: number;
}

/** An integer that can be absent. */
export interface Int64Value {
  readonly value: bigint;
}
