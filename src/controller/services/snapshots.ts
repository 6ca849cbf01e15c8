import { status } from '@grpc/grpc-js';
import type {
  GetSnapshotResponse,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  Snapshot,
} from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { snapshotIdFor, tagOfId } from '../../ids.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCreateSnapshotForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { StatusError } from '../../rpc/status.ts';
import { parsePage, requireText } from '../../rpc/validate.ts';
import { type Agent, atMost } from '../agent.ts';
import type { Node } from '../agents.ts';
import { listOver } from '../lists.ts';
import { agentOf, findAgent, routeOf } from '../route.ts';
import { askNodes, type ControllerContext, forward } from './context.ts';
import { withReach } from './snapshot-topology.ts';

type SnapshotMethod = 'CreateSnapshot' | 'DeleteSnapshot' | 'ListSnapshots' | 'GetSnapshot';

const service = 'csi.v1.Controller';

/** Time for a node to say whether it has a snapshot. */
const askTimeoutMs = 2_000;

/** Implements the snapshot calls of the Controller service: a snapshot is made on the node of its volume. */
export function snapshotMethods(
  context: ControllerContext,
): Pick<Implementation<'csi.v1.Controller'>, SnapshotMethod> {
  const { agents } = context;
  return {
    async CreateSnapshot(request, call) {
      const { name, sourceVolumeId } = parseCreateSnapshotForm(request);
      const agent = agentOf(sourceVolumeId, 'volume', agents);
      return oneSourceAtATime(context.snapshotSources, { name, sourceVolumeId }, async () => {
        await requireUnusedElsewhere(context, { name, sourceVolumeId, agent }, call);
        const made = await forward(agent, { service, rpc: 'CreateSnapshot', request }, call);
        return { snapshot: withReach(agents, made.snapshot) };
      });
    },

    async DeleteSnapshot(request, call) {
      const id = requireText(request.snapshot_id, 'snapshot_id');
      const agent = findAgent(id, 'snapshot', agents);
      if (agent === undefined) return {};
      return forward(agent, { service, rpc: 'DeleteSnapshot', request }, call);
    },

    async GetSnapshot(request, call) {
      const id = requireText(request.snapshot_id, 'snapshot_id');
      const agent = agentOf(id, 'snapshot', agents);
      const found = await forward(agent, { service, rpc: 'GetSnapshot', request }, call);
      return { snapshot: withReach(agents, found.snapshot) };
    },

    async ListSnapshots(request, call) {
      const { entries, next_token } = await listSnapshots(context, request, call);
      const reached = entries.map(({ snapshot }) => ({ snapshot: withReach(agents, snapshot) }));
      return { entries: reached, next_token };
    },
  };
}

/**
 * The name of a snapshot is unique over the plugin (CSI spec, CreateSnapshot), but each node knows only its own. While this controller
 * makes a snapshot, a call for the same name and another volume is `busy`, since that may be on another node.
 */
async function oneSourceAtATime<T>(
  running: ControllerContext['snapshotSources'],
  { name, sourceVolumeId }: { readonly name: string; readonly sourceVolumeId: string },
  work: () => Promise<T>,
): Promise<T> {
  const current = running.get(name) ?? { sourceVolumeId, calls: 0 };
  if (current.sourceVolumeId !== sourceVolumeId) {
    throw new VolumeError(
      'busy',
      `snapshot '${name}' of volume '${current.sourceVolumeId}' is being made; retry later`,
    );
  }
  current.calls += 1;
  running.set(name, current);
  try {
    return await work();
  } finally {
    current.calls -= 1;
    if (current.calls === 0) running.delete(name);
  }
}

/**
 * Throws `conflict` if another node has a snapshot of that name of another volume. Others are asked only if the node of the volume says
 * that it has no such snapshot: if it does not answer, it may have it, and then the call must join the earlier one. A node that is not
 * ready or does not answer soon is passed over, because one node must not keep all others from making snapshots.
 */
async function requireUnusedElsewhere(
  context: ControllerContext,
  { name, sourceVolumeId, agent }: Asked,
  call: RpcCall,
): Promise<void> {
  const nodes = context.agents.nodes();
  const own = nodes.find((node) => node.agent === agent);
  if (own?.tag === undefined || (await findSnapshot(agent, own.tag, name, call)) !== 'none') return;
  await askNodes(context, nodes, call, async (node) => {
    if (node === own || node.agent === undefined || node.tag === undefined) return;
    const snapshot = await findSnapshot(node.agent, node.tag, name, call);
    if (snapshot === 'none' || snapshot === undefined) return;
    if (snapshot.source_volume_id === sourceVolumeId) return;
    throw new VolumeError(
      'conflict',
      `a snapshot with the name '${name}' exists on node '${node.name}': '${snapshot.snapshot_id}' of volume '${snapshot.source_volume_id}'; choose another name`,
    );
  });
}

interface Asked {
  readonly name: string;
  readonly sourceVolumeId: string;
  /** Of the node of the volume. */
  readonly agent: Agent;
}

/** The snapshot of that name of one node, `none` if the node says that it has none, undefined if it does not answer the question. */
async function findSnapshot(
  agent: Agent,
  tag: string,
  name: string,
  call: RpcCall,
): Promise<Snapshot | 'none' | undefined> {
  const id = snapshotIdFor(name, tag);
  const caller = atMost(askTimeoutMs, call);
  try {
    const request = { snapshot_id: id, secrets: {} };
    const found = agent.call({ service, rpc: 'GetSnapshot', request }, caller);
    const { snapshot }: GetSnapshotResponse = await found;
    return snapshot?.snapshot_id === id ? snapshot : undefined;
  } catch (error) {
    return error instanceof StatusError && error.code === status.NOT_FOUND ? 'none' : undefined;
  }
}

/**
 * CSI spec, ListSnapshots. With `snapshot_id` only one node is asked: a snapshotter takes an empty list for a snapshot that is gone,
 * so a node that is unreachable must fail the call.
 */
async function listSnapshots(
  { agents }: ControllerContext,
  request: ListSnapshotsRequest,
  call: RpcCall,
): Promise<ListSnapshotsResponse> {
  const page = parsePage(request);
  const { snapshot_id, source_volume_id } = request;
  if (snapshot_id !== '') {
    const agent = findAgent(snapshot_id, 'snapshot', agents);
    if (agent === undefined) return { entries: [], next_token: '' };
    return forward(agent, { service, rpc: 'ListSnapshots', request }, call);
  }
  const nodes =
    source_volume_id === '' ? agents.nodes() : nodesOfVolume({ agents }, source_volume_id);
  return listOver(agents, nodes, {
    ...page,
    ask: (agent, part) =>
      agent.call({ service, rpc: 'ListSnapshots', request: { ...request, ...part } }, call),
  });
}

/** The nodes that may have snapshots of a volume: the one that has it, and the one that made it. */
function nodesOfVolume({ agents }: Pick<ControllerContext, 'agents'>, id: string): readonly Node[] {
  const tag = tagOfId(id);
  const route = routeOf(id, agents);
  const home = route.kind === 'node' ? route.node : undefined;
  if (home === undefined) {
    // Throws if the node is not known, and finds none if it was lost for good.
    findAgent(id, 'volume', agents);
    return [];
  }
  return agents.nodes().filter((node) => node === home || node.tag === tag);
}
