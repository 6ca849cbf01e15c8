// Generated from csi-proto/agent.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

import type { Unary } from './rpc-kinds.ts';

/** The services of loopcsi.agent.v1, by their full names. */
export interface AgentServices {
  readonly 'loopcsi.agent.v1.Agent': AgentService;
}

/** Served only to the controller, on the agent's network address and never on the CSI socket. */
export interface AgentService {
  /** Says which node this is, what it has and which version it speaks. The controller asks it on every connection and once a minute. */
  readonly Hello: Unary<HelloRequest, HelloResponse>;
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
}

export interface Pool {
  readonly name: string;
  readonly uuid: string;
}

/** An integer that can be absent. */
export interface Int64Value {
  readonly value: bigint;
}
