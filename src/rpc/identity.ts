import type { PluginCapability } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import { type Features, pluginServices } from './advertised.ts';
import type { Implementation } from './handlers.ts';

/** What a process says about itself: the driver of a node, or the controller. */
export interface IdentityContext {
  readonly driverName: string;
  /** Version of the process. */
  readonly version: string;
  readonly features: Features;
  /** Facts for the manifest of GetPluginInfo, besides the version of CSI. */
  readonly manifest?: Readonly<Record<string, string>>;
  /** Returns why calls cannot be served; undefined if they can. */
  readonly findReadinessProblem?: () => Promise<string | undefined>;
  /** Whether the process needs more time to be ready. Sidecars wait for it then, and end after an error. */
  readonly isStarting?: () => boolean;
}

/** Implements the Identity service (CSI spec, "Identity Service RPC"). */
export function identityMethods({
  driverName,
  version,
  features,
  manifest = {},
  findReadinessProblem = async () => undefined,
  isStarting = () => false,
}: IdentityContext): Implementation<'csi.v1.Identity'> {
  return {
    async GetPluginInfo() {
      return {
        name: driverName,
        vendor_version: version,
        manifest: { 'csi-spec': '1.13.0', ...manifest },
      };
    },

    async GetPluginCapabilities() {
      const services = pluginServices(features).map(
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
      const unready = await findReadinessProblem();
      if (unready !== undefined) throw new VolumeError('wrong-state', unready);
      return { ready: { value: !isStarting() } };
    },
  };
}
