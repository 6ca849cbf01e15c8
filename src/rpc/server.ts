import type { Logger } from '../observe/log.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import { type CsiServiceName, offeredCalls } from './advertised.ts';
import type { ServerHooks } from './call.ts';
import { callFields } from './call-fields.ts';
import type { CsiContext } from './context.ts';
import { controllerMethods } from './controller.ts';
import { groupControllerMethods } from './group-controller.ts';
import { makeService, type RunningServer, type Service, serveOnSocket } from './grpc-server.ts';
import { type Implementation, makeHandlers } from './handlers.ts';
import { type IdentityContext, identityMethods } from './identity.ts';
import { nodeMethods } from './node.ts';
import { snapshotMetadataMethods } from './snapshot-metadata.ts';

export interface CsiServerOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  readonly context: CsiContext;
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  /** Further services on the same socket. */
  readonly otherServices?: (hooks: ServerHooks) => readonly Service[];
  readonly prefaceTimeoutMs?: number;
}

/** Serves all services of csi.v1 on the socket. Throws `unavailable` if it cannot be bound. */
export async function serveCsi(options: CsiServerOptions): Promise<RunningServer> {
  const { context, otherServices } = options;
  return serveOnSocket({
    ...options,
    fieldsOf: (request) => callFields(request, context.volumes),
    services: (hooks) => [
      ...controllerServices(context, hooks),
      csiService('csi.v1.Node', nodeMethods(context), context, hooks),
      ...(otherServices?.(hooks) ?? []),
    ],
  });
}

/** The services of csi.v1 that need not run on the node of the caller: all but Node. */
export function controllerServices(context: CsiContext, hooks: ServerHooks): readonly Service[] {
  return [
    csiService('csi.v1.Identity', identityMethods(identityOf(context)), context, hooks),
    csiService('csi.v1.Controller', controllerMethods(context), context, hooks),
    csiService('csi.v1.GroupController', groupControllerMethods(context), context, hooks),
    csiService('csi.v1.SnapshotMetadata', snapshotMetadataMethods(context), context, hooks),
  ];
}

function csiService<N extends CsiServiceName>(
  name: N,
  implementation: Implementation<N>,
  context: CsiContext,
  hooks: ServerHooks,
): Service {
  const calls = offeredCalls(name, context.settings);
  return makeService(
    name,
    makeHandlers(name, implementation, hooks, { calls, checksSizeLimits: true }),
  );
}

function identityOf({ settings, version, volumes }: CsiContext): IdentityContext {
  return {
    driverName: settings.driverName,
    version,
    features: settings,
    findReadinessProblem: () => volumes.findReadinessProblem(),
  };
}
