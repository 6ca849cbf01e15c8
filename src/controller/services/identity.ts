import type { PluginCapability } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { pluginServices } from '../../rpc/advertised.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { controllerFeatures } from '../offered.ts';
import type { ControllerContext } from './context.ts';

/** Implements the Identity service (CSI spec, "Identity Service RPC"). It needs no agent. */
export function identityMethods(context: ControllerContext): Implementation<'csi.v1.Identity'> {
  const { driverName, version } = context;
  return {
    async GetPluginInfo() {
      return { name: driverName, vendor_version: version, manifest: { 'csi-spec': '1.13.0' } };
    },

    async GetPluginCapabilities() {
      const services = pluginServices(controllerFeatures).map(
        (type): PluginCapability => ({ type: 'service', service: { type } }),
      );
      const expansion: PluginCapability = {
        type: 'volume_expansion',
        volume_expansion: { type: 'ONLINE' },
      };
      return { capabilities: [...services, expansion] };
    },

    async Probe() {
      const unready = findReadinessProblem(context);
      if (unready !== undefined) throw new VolumeError('wrong-state', unready);
      return { ready: { value: true } };
    },
  };
}

/** Why calls cannot be routed yet; undefined if they can. A node that is away is no reason: the others work. */
export function findReadinessProblem({ agents }: ControllerContext): string | undefined {
  if (agents.syncedForMs !== undefined) return undefined;
  return 'the agents of the nodes have not been discovered yet; check --agents and what it names';
}
