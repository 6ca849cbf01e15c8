/** The parts of a controller that its calls need, with nodes that a test makes, and without connections. */
import { pino } from 'pino';
import type { Agents, Node } from '../../src/controller/agents.ts';
import {
  type ControllerContext,
  makeQuestionLimit,
} from '../../src/controller/services/context.ts';
import { makeCreateMemory } from '../../src/controller/services/create-volume.ts';
import type { CreateVolumeRequest } from '../../src/csi/types.ts';
import { nodeTagOf } from '../../src/ids.ts';
import type { RpcCall } from '../../src/rpc/call.ts';
import { aCapability } from './controller.ts';

const silent = pino({ level: 'silent' });

/** A call without a deadline whose caller stays. */
export function aCall(): RpcCall {
  const { signal } = new AbortController();
  return { log: silent.child({}), signal, deadlineMs: Infinity, peer: '127.0.0.1:1' };
}

/** A request for a volume of any size on any node. */
export function aCreateRequest(name: string): CreateVolumeRequest {
  return {
    name,
    capacity_range: null,
    volume_capabilities: [aCapability],
    parameters: {},
    secrets: {},
    volume_content_source: null,
    accessibility_requirements: null,
    mutable_parameters: {},
  };
}

/** A node that was never seen. */
export function aNode(name: string, fields: Partial<Node> = {}): Node {
  return {
    name,
    tag: nodeTagOf(name),
    segments: {},
    agent: undefined,
    absence: undefined,
    foreignIds: [],
    rank: undefined,
    addresses: [],
    hello: undefined,
    ...fields,
  };
}

/** The context of a controller whose nodes are those that `nodes` returns. No node is forgotten, and all absences began a minute ago. */
export function aContext(nodes: () => readonly Node[]): ControllerContext {
  const agents: Partial<Agents> = {
    nodes,
    nowMs: () => 0,
    absentForMs: () => 60_000,
    isSettling: false,
    requireSynced: () => undefined,
    isForgotten: () => false,
  };
  return {
    agents: agents as Agents,
    driverName: 'loopcsi.io',
    version: '1',
    createdNames: makeCreateMemory(),
    questions: makeQuestionLimit(),
    snapshotSources: new Map(),
  };
}
