import type { GroupControllerServiceCapability } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { missing } from '../../ids.ts';
import { groupCapabilities } from '../../rpc/advertised.ts';
import { parseCreateGroupForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { requireText } from '../../rpc/validate.ts';
import type { Agent } from '../agent.ts';
import type { Agents } from '../agents.ts';
import { controllerFeatures } from '../offered.ts';
import { agentOf, findAgent, routeOf, undecided } from '../route.ts';
import { type ControllerContext, forward } from './context.ts';

const service = 'csi.v1.GroupController';
const kind = 'group snapshot';

/** Implements the GroupController service (CSI spec, "Group Controller Service RPC") for volumes that are on one node. */
export function groupControllerMethods({
  agents,
}: ControllerContext): Implementation<'csi.v1.GroupController'> {
  return {
    async GroupControllerGetCapabilities() {
      const capabilities = groupCapabilities(controllerFeatures).map(
        (type): GroupControllerServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },

    async CreateVolumeGroupSnapshot(request, call) {
      const agent = agentOfAll(parseCreateGroupForm(request).sourceVolumeIds, agents);
      return forward(agent, { service, rpc: 'CreateVolumeGroupSnapshot', request }, call);
    },

    async DeleteVolumeGroupSnapshot(request, call) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      const agent = findAgent(id, kind, agents);
      if (agent === undefined) return {};
      return forward(agent, { service, rpc: 'DeleteVolumeGroupSnapshot', request }, call);
    },

    async GetVolumeGroupSnapshot(request, call) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      const agent = agentOf(id, kind, agents);
      return forward(agent, { service, rpc: 'GetVolumeGroupSnapshot', request }, call);
    },
  };
}

/** The agent that has all the volumes. Throws `wrong-state` if they are on different nodes. */
function agentOfAll(volumeIds: readonly string[], agents: Agents): Agent {
  const nodes = new Map<string, string>();
  for (const id of volumeIds) {
    const route = routeOf(id, agents);
    if (route.kind === 'nowhere') throw missing('volume', id);
    if (route.kind === 'unheard') throw undecided(id, 'volume', route, agents);
    if (route.kind === 'node') nodes.set(route.node.name, id);
    else nodes.set(`tag ${route.tag}`, id);
  }
  const [[, id] = ['', ''], ...others] = nodes;
  if (others.length === 0) return agentOf(id, 'volume', agents);
  const places = [...nodes].slice(0, 5).map(([name, one]) => `'${one}' on node '${name}'`);
  throw new VolumeError(
    'wrong-state',
    `the volumes of the group are on different nodes (${places.join(', ')}); a group snapshot of several nodes is not supported yet: select volumes of one node`,
  );
}
