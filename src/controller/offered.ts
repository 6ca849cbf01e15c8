/** The calls and capabilities of the controller: those of the driver that make sense for a caller who sees all nodes. */
import { controllerCapabilities, type Features, offeredCalls } from '../rpc/advertised.ts';

/** A driver that is started with other options answers UNIMPLEMENTED itself. */
export const controllerFeatures: Features = { expansion: 'both', withoutStaging: false };

/**
 * A health monitor that can list asks for all volumes in one call, which fails while any node is unreachable. Without it, it asks for each
 * volume, and only those of that node are affected.
 */
const withheld: ReadonlySet<string> = new Set(['LIST_VOLUME_HEALTH']);
const withheldCalls: ReadonlySet<string> = new Set(['ControllerListVolumeHealth']);

export const offeredCapabilities = controllerCapabilities(controllerFeatures).filter(
  (name) => !withheld.has(name),
);

export type RoutedService =
  | 'csi.v1.Identity'
  | 'csi.v1.Controller'
  | 'csi.v1.GroupController'
  | 'csi.v1.SnapshotMetadata';

/** As `offeredCalls` of the driver. */
export function routedCalls(service: RoutedService): ReturnType<typeof offeredCalls> {
  return new Map(
    [...offeredCalls(service, controllerFeatures)].map(([rpc, call]) => [
      rpc,
      withheldCalls.has(rpc) ? { ...call, offered: false } : call,
    ]),
  );
}
