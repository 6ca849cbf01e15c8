import type { ListSnapshotsRequest, ListSnapshotsResponse } from '../../csi/types.ts';
import { tagOfId } from '../../ids.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCreateSnapshotForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { parsePage, requireText } from '../../rpc/validate.ts';
import type { Node } from '../agents.ts';
import { listOver } from '../lists.ts';
import { agentOf, findAgent, routeOf } from '../route.ts';
import { type ControllerContext, forward } from './context.ts';

type SnapshotMethod = 'CreateSnapshot' | 'DeleteSnapshot' | 'ListSnapshots' | 'GetSnapshot';

const service = 'csi.v1.Controller';

/** Implements the snapshot calls of the Controller service: a snapshot is made on the node of its volume. */
export function snapshotMethods(
  context: ControllerContext,
): Pick<Implementation<'csi.v1.Controller'>, SnapshotMethod> {
  const { agents } = context;
  return {
    async CreateSnapshot(request, call) {
      const { sourceVolumeId } = parseCreateSnapshotForm(request);
      const agent = agentOf(sourceVolumeId, 'volume', agents);
      return forward(agent, { service, rpc: 'CreateSnapshot', request }, call);
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
      return forward(agent, { service, rpc: 'GetSnapshot', request }, call);
    },

    async ListSnapshots(request, call) {
      return listSnapshots(context, request, call);
    },
  };
}

/**
 * CSI spec, ListSnapshots. With `snapshot_id` only one node is asked: a snapshotter takes an empty list for a snapshot that is gone,
 * so a node that is away must fail the call.
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
