import type { PluginCapability } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import { pluginServices } from './advertised.ts';
import type { Front } from './context.ts';
import type { Implementation } from './handlers.ts';

/** CSI spec, "Identity Service RPC". */
export function identityService({ settings, volumes }: Front): Implementation<'csi.v1.Identity'> {
  return {
    async GetPluginInfo() {
      return {
        name: settings.driverName,
        vendor_version: settings.version,
        manifest: { 'csi-spec': '1.13.0' },
      };
    },

    async GetPluginCapabilities() {
      const services = pluginServices(settings).map(
        (type): PluginCapability => ({ type: 'service', service: { type } }),
      );
      // ONLINE says that an unused volume grows too; both at once are not to be listed.
      const expansion: PluginCapability = {
        type: 'volume_expansion',
        volume_expansion: { type: 'ONLINE' },
      };
      return { capabilities: [...services, expansion] };
    },

    async Probe(_request, call) {
      const unready = await volumes.findUnready(call);
      if (unready !== undefined) throw new VolumeError('wrong-state', unready);
      return { ready: { value: true } };
    },
  };
}
