import { settleAll } from '../../async.ts';
import type {
  CreateVolumeGroupSnapshotRequest,
  CreateVolumeGroupSnapshotResponse,
  GroupControllerServiceCapability,
  VolumeGroupSnapshot,
} from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { groupIdFor, missing } from '../../ids.ts';
import { groupCapabilities } from '../../rpc/advertised.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCreateGroupForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { requireText } from '../../rpc/validate.ts';
import { type Agent, atMost } from '../agent.ts';
import type { Agents } from '../agents.ts';
import { removePart } from '../groups/settle.ts';
import { type NodeOfGroup, takeOverNodes } from '../groups/take.ts';
import { controllerFeatures } from '../offered.ts';
import { agentOf, findAgent, requireAgent, routeOf, undecided } from '../route.ts';
import { askNodes, type ControllerContext, forward } from './context.ts';
import { withReach } from './snapshot-topology.ts';

const service = 'csi.v1.GroupController';
const kind = 'group snapshot';
/** Time for a node to say whether it has a group. */
const askTimeoutMs = 2_000;

/** Implements the GroupController service (CSI spec, "Group Controller Service RPC"), for volumes of one node and of several. */
export function groupControllerMethods(
  context: ControllerContext,
): Implementation<'csi.v1.GroupController'> {
  const { agents } = context;
  return {
    async GroupControllerGetCapabilities() {
      const capabilities = groupCapabilities(controllerFeatures).map(
        (type): GroupControllerServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },

    async CreateVolumeGroupSnapshot(request, call) {
      parseCreateGroupForm(request);
      const [first, ...others] = nodesOf(request.source_volume_ids, agents);
      await requireUnusedElsewhere(context, { name: request.name, primary: first }, call);
      const made =
        others.length === 0
          ? forward(first.agent, { service, rpc: 'CreateVolumeGroupSnapshot', request }, call)
          : createOverNodes([first, ...others], request, call);
      return { group_snapshot: groupWithReach(agents, (await made).group_snapshot) };
    },

    async DeleteVolumeGroupSnapshot(request, call) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      const agent = findAgent(id, kind, agents);
      // The record goes first: from then on the group does not exist, and a repeated call removes the members that are left.
      if (agent !== undefined)
        await forward(agent, { service, rpc: 'DeleteVolumeGroupSnapshot', request }, call);
      const part = { groupId: id, attempt: '', snapshotIds: request.snapshot_ids };
      const others = agentsOfMembers(request.snapshot_ids, agents).filter((one) => one !== agent);
      await settleAll(others.map((one) => removePart(one, part, call)));
      return {};
    },

    async GetVolumeGroupSnapshot(request, call) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      const agent = agentOf(id, kind, agents);
      const found = await forward(agent, { service, rpc: 'GetVolumeGroupSnapshot', request }, call);
      return { group_snapshot: groupWithReach(agents, found.group_snapshot) };
    },
  };
}

function groupWithReach(
  agents: Agents,
  group: VolumeGroupSnapshot | null,
): VolumeGroupSnapshot | null {
  if (group === null) return null;
  return { ...group, snapshots: group.snapshots.map((one) => withReach(agents, one)) };
}

/**
 * Throws `conflict` if another node has a group of that name, which is then of other volumes: the name of a group is unique over the plugin
 * (CSI spec, CreateVolumeGroupSnapshot). As for snapshots (snapshots.ts), others are asked only if the node that would keep the record
 * says that it has none, and a node that does not answer soon is passed over.
 */
async function requireUnusedElsewhere(
  context: ControllerContext,
  { name, primary }: { readonly name: string; readonly primary: NodeOfGroup },
  call: RpcCall,
): Promise<void> {
  if ((await findGroup(primary, name, call)) !== 'none') return;
  await askNodes(context, context.agents.nodes(), call, async ({ agent, tag, name: nodeName }) => {
    if (agent === undefined || tag === undefined || agent === primary.agent) return;
    if ((await findGroup({ agent, tag }, name, call)) !== 'exists') return;
    throw new VolumeError(
      'conflict',
      `a group snapshot with the name '${name}' exists on node '${nodeName}', of other volumes; choose another name`,
    );
  });
}

/** Undefined if the node does not answer the question. */
async function findGroup(
  { agent, tag }: Pick<NodeOfGroup, 'agent' | 'tag'>,
  name: string,
  call: RpcCall,
): Promise<string | undefined> {
  const caller = atMost(askTimeoutMs, call);
  const find = { group_id: groupIdFor(name, tag) };
  try {
    const request = { service: 'loopcsi.agent.v1.Agent', rpc: 'FindGroup', request: find } as const;
    return (await agent.call(request, caller)).state;
  } catch {
    return undefined;
  }
}

async function createOverNodes(
  nodes: readonly [NodeOfGroup, ...NodeOfGroup[]],
  request: CreateVolumeGroupSnapshotRequest,
  call: RpcCall,
): Promise<CreateVolumeGroupSnapshotResponse> {
  const { groupId, snapshotIds } = await takeOverNodes(nodes, request, call);
  const get = {
    group_snapshot_id: groupId,
    snapshot_ids: snapshotIds,
    secrets: request.secrets,
  };
  return forward(nodes[0].agent, { service, rpc: 'GetVolumeGroupSnapshot', request: get }, call);
}

/**
 * The nodes that have the volumes. The first is that of the first id in order, whatever the order of the request, so that a repeated call
 * finds the group on the same node. Throws `unavailable` if one of them cannot be asked.
 */
function nodesOf(
  volumeIds: readonly string[],
  agents: Agents,
): readonly [NodeOfGroup, ...NodeOfGroup[]] {
  const found = new Map<Agent, { agent: Agent; tag: string; volumeIds: string[] }>();
  for (const id of volumeIds.toSorted()) {
    const route = routeOf(id, agents);
    if (route.kind === 'nowhere') throw missing('volume', id);
    if (route.kind !== 'node') throw undecided(id, 'volume', route, agents);
    const agent = requireAgent(route.node, agents);
    const known = found.get(agent);
    if (known === undefined)
      found.set(agent, { agent, tag: route.node.tag ?? '', volumeIds: [id] });
    else known.volumeIds.push(id);
  }
  const [first, ...others] = found.values();
  if (first === undefined) throw new VolumeError('invalid', 'source_volume_ids is empty');
  return [first, ...others];
}

/** The agents of the nodes that may have these snapshots. */
function agentsOfMembers(snapshotIds: readonly string[], agents: Agents): readonly Agent[] {
  const found = snapshotIds.flatMap((id) => findAgent(id, 'snapshot', agents) ?? []);
  return [...new Set(found)];
}
