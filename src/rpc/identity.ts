import type { PluginCapability } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import { pluginServices } from './advertised.ts';
import type { CsiContext } from './context.ts';
import type { Implementation } from './handlers.ts';

/** Implements the Identity service (CSI spec, "Identity Service RPC"). */
export function identityMethods({
  settings,
  version,
  volumes,
}: CsiContext): Implementation<'csi.v1.Identity'> {
  return {
    async GetPluginInfo() {
      return {
        name: settings.driverName,
        vendor_version: version,
        manifest: { 'csi-spec': '1.13.0' },
      };
    },

    async GetPluginCapabilities() {
      const services = pluginServices(settings).map(
        (type): PluginCapability => ({ type: 'service', service: { type } }),
      );
      // The spec allows only one type; ONLINE includes volumes that are not in use.
      const expansion: PluginCapability = {
        type: 'volume_expansion',
        volume_expansion: { type: 'ONLINE' },
      };
      return { capabilities: [...services, expansion] };
    },

    async Probe() {
      const unready = await volumes.findReadinessProblem();
      if (unready !== undefined) throw new VolumeError('wrong-state', unready);
      return { ready: { value: true } };
    },
  };
}
