import { makeSemaphore, mapConcurrently } from '../../async.ts';
import type { MethodName } from '../../csi/rpc-types.ts';
import type { RpcCall } from '../../rpc/call.ts';
import type { Agent } from '../agent.ts';
import type { Agents, Node } from '../agents.ts';
import type { AgentCall, AgentResponse } from '../connection.ts';

/** Dependencies of the services of the controller. */
export interface ControllerContext {
  readonly agents: Agents;
  readonly driverName: string;
  /** Version of the controller. */
  readonly version: string;
  readonly createdNames: CreateMemory;
  /** Limits the calls that ask other nodes whether they have a name, or what they have, at a time. */
  readonly questions: ReturnType<typeof makeSemaphore>;
  /** By name, the volume of which a snapshot is being made, and the number of calls for it. */
  readonly snapshotSources: Map<string, { readonly sourceVolumeId: string; calls: number }>;
}

/** What this process knows about creates of which several nodes are candidates (create-volume.ts). */
export interface CreateMemory {
  /** Names that are being created now. */
  readonly running: Set<string>;
  /** Names of volumes that a node may have made although its answer did not arrive, with the tag of that node. */
  readonly undecided: Map<string, string>;
  /** By tag, nodes that are ready but did not say whether they have a volume: since when, and when last, of the monotonic clock. */
  readonly silent: Map<string, { readonly sinceMs: number; readonly lastMs: number }>;
}

/**
 * Each of these calls asks a node once at a time, so that half of the calls that an agent takes (agent.ts) remain for the calls that
 * are passed on. More questions wait here instead of being refused there.
 */
const maxQuestions = 32;

export function makeQuestionLimit(): ControllerContext['questions'] {
  return makeSemaphore(maxQuestions);
}

/** Nodes that one question asks at a time. */
const maxConcurrentNodes = 32;

/** Asks each of the nodes, as one question of the limit. Returns the answers in their order, or throws the first failure. */
export async function askNodes<T>(
  { questions }: ControllerContext,
  nodes: readonly Node[],
  call: RpcCall,
  ask: (node: Node) => Promise<T>,
): Promise<readonly T[]> {
  return questions(() => mapConcurrently(nodes, maxConcurrentNodes, ask), call.signal);
}

type CsiService = 'csi.v1.Controller' | 'csi.v1.GroupController' | 'csi.v1.SnapshotMetadata';

/** Passes a call on to an agent. The lines of the call in the log name the node from here on. */
export async function forward<N extends CsiService, M extends MethodName<N>>(
  agent: Agent,
  forwarded: AgentCall<N, M>,
  call: RpcCall,
): Promise<AgentResponse<N, M>> {
  nameNode(agent, call);
  return agent.call(forwarded, call);
}

/** As `forward`, for a call whose responses are a stream. They are read as fast as the caller reads them. */
export function forwardStream<N extends 'csi.v1.SnapshotMetadata', M extends MethodName<N>>(
  agent: Agent,
  forwarded: AgentCall<N, M>,
  call: RpcCall,
): AsyncIterable<AgentResponse<N, M>> {
  nameNode(agent, call);
  return agent.stream(forwarded, call);
}

function nameNode(agent: Agent, call: RpcCall): void {
  call.log.setBindings({ node: agent.name });
}
