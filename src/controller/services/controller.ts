import type { MethodName } from '../../csi/rpc-types.ts';
import type { ControllerServiceCapability } from '../../csi/types.ts';
import { parseAskedCapabilities, parseExpandForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { parsePage, requireText } from '../../rpc/validate.ts';
import type { AgentCall } from '../connection.ts';
import { listOver } from '../lists.ts';
import { offeredCapabilities } from '../offered.ts';
import { absent, agentOf, findAgent, routeOf } from '../route.ts';
import { getCapacity } from './capacity.ts';
import { type ControllerContext, forward } from './context.ts';
import { createVolume } from './create-volume.ts';
import { snapshotMethods } from './snapshots.ts';

type Methods = Implementation<'csi.v1.Controller'>;

/** A volume's health is reported as degraded if its node has not been ready for this time. */
const unreachableMs = 60_000;

/** Implements the Controller service (CSI spec, "Controller Service RPC") by passing each call to the node that it concerns. */
export function controllerMethods(context: ControllerContext): Methods {
  return {
    ...volumeMethods(context),
    ...snapshotMethods(context),

    async ControllerGetCapabilities() {
      const capabilities = offeredCapabilities.map(
        (type): ControllerServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },

    async GetCapacity(request, call) {
      return getCapacity(context, request, call);
    },

    async ControllerGetVolumeHealth(request, call) {
      const id = requireText(request.volume_id, 'volume_id');
      const unreachable = findUnreachable(context, id);
      if (unreachable !== undefined) {
        const status = {
          status: 'DEGRADED',
          reason: 'AgentUnreachable',
          message: unreachable,
        } as const;
        return { volume_health: { volume_id: id, health_statuses: [status] } };
      }
      const agent = agentOf(id, 'volume', context.agents);
      return forward(agent, csi('ControllerGetVolumeHealth', request), call);
    },
  };
}

function csi<M extends MethodName<'csi.v1.Controller'>>(
  rpc: M,
  request: AgentCall<'csi.v1.Controller', M>['request'],
): AgentCall<'csi.v1.Controller', M> {
  return { service: 'csi.v1.Controller', rpc, request };
}

function volumeMethods(context: ControllerContext): Methods {
  const { agents } = context;
  const agentOfVolume = (id: string) => agentOf(requireText(id, 'volume_id'), 'volume', agents);
  return {
    async CreateVolume(request, call) {
      return createVolume(context, request, call);
    },

    async DeleteVolume(request, call) {
      const agent = findAgent(requireText(request.volume_id, 'volume_id'), 'volume', agents);
      return agent === undefined ? {} : forward(agent, csi('DeleteVolume', request), call);
    },

    async ValidateVolumeCapabilities(request, call) {
      const id = requireText(request.volume_id, 'volume_id');
      parseAskedCapabilities(request.volume_capabilities);
      return forward(agentOfVolume(id), csi('ValidateVolumeCapabilities', request), call);
    },

    async ControllerExpandVolume(request, call) {
      const { volumeId } = parseExpandForm(request);
      return forward(agentOfVolume(volumeId), csi('ControllerExpandVolume', request), call);
    },

    async ControllerModifyVolume(request, call) {
      return forward(
        agentOfVolume(request.volume_id),
        csi('ControllerModifyVolume', request),
        call,
      );
    },

    async ControllerGetVolume(request, call) {
      return forward(agentOfVolume(request.volume_id), csi('ControllerGetVolume', request), call);
    },

    async ListVolumes(request, call) {
      return listOver(agents, agents.nodes(), {
        ...parsePage(request),
        ask: (agent, page) => agent.call(csi('ListVolumes', page), call),
      });
    },
  };
}

/** Why the health of a volume cannot be asked for; undefined if it can, or if the node was there a moment ago. */
function findUnreachable({ agents }: ControllerContext, id: string): string | undefined {
  const route = routeOf(id, agents);
  if (route.kind !== 'node' || route.node.absence === undefined) return undefined;
  const isLong = agents.absentForMs(route.node.absence) > unreachableMs;
  return isLong ? absent(route.node, agents).message : undefined;
}
