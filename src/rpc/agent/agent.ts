import { VolumeError } from '../../errors.ts';
import type { ServerHooks } from '../call.ts';
import type { CsiContext } from '../context.ts';
import { makeService, type Service } from '../grpc-server.ts';
import { type Implementation, makeHandlers } from '../handlers.ts';
import { accessibleTopology } from '../topology.ts';

/** Version of loopcsi.agent.v1 that this driver speaks. */
export const agentApiVersion = 1;

const calls = new Map([['Hello', { logClass: 'polling', offered: true } as const]]);

/** Creates the service `loopcsi.agent.v1.Agent`, which only the controller may call. */
export function agentService(context: CsiContext, hooks: ServerHooks): Service {
  return makeService(
    'loopcsi.agent.v1.Agent',
    makeHandlers('loopcsi.agent.v1.Agent', agentMethods(context), hooks, {
      calls,
      checksSizeLimits: false,
    }),
  );
}

export function agentMethods({
  settings,
  version,
  volumes,
  thisNode,
}: CsiContext): Implementation<'loopcsi.agent.v1.Agent'> {
  return {
    async Hello({ api_version: theirs, controller_version }, call) {
      if (theirs < 1) {
        throw new VolumeError(
          'invalid',
          `api_version ${theirs} is not a version of loopcsi.agent.v1; this driver speaks ${agentApiVersion}`,
        );
      }
      call.log.trace({ apiVersion: theirs, controllerVersion: controller_version }, 'hello');
      const { nodeTag, pools, foreignIds, volumeCount } = volumes.inventory();
      return {
        api_version: agentApiVersion,
        version,
        driver_name: settings.driverName,
        node_id: thisNode.nodeId,
        node_tag: nodeTag,
        segments: accessibleTopology(thisNode).segments,
        pools,
        foreign_ids: foreignIds,
        volume_count: { value: BigInt(volumeCount) },
      };
    },
  };
}
