import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { serviceDefinition } from '../csi/codec.ts';
import type { Handlers, ServiceName } from '../csi/rpc-types.ts';
import type { Logger } from '../observe/log.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import { type CsiServiceName, offeredCalls } from './advertised.ts';
import { limitCalls, type ServerHooks } from './call.ts';
import { callFields } from './call-fields.ts';
import type { CsiContext } from './context.ts';
import { controllerMethods } from './controller.ts';
import { groupControllerMethods } from './group-controller.ts';
import { type Implementation, makeHandlers } from './handlers.ts';
import { identityMethods } from './identity.ts';
import { nodeMethods } from './node.ts';
import { snapshotMetadataMethods } from './snapshot-metadata.ts';
import { listen } from './socket.ts';

/** The sidecars, the kubelet, probes and a few commands use about a tenth of this number. */
const maxConnections = 128;
const maxRunningCalls = 1024;

const grpcOptions: ServerOptions = {
  // Most CSI requests have at most 20 KiB, but a request for a group snapshot lists its members with up to 128 bytes each.
  'grpc.max_receive_message_length': 1024 * 1024,
  // Without max_entries a page contains all volumes; 10,000 of them are 3 MiB.
  'grpc.max_send_message_length': 256 * 1024 * 1024,
  'grpc.max_concurrent_streams': 256,
  'grpc-node.max_session_memory': 16,
  // Sidecars exit when their connection is closed, so an idle connection is only closed if pings are not answered.
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.enable_channelz': 0,
};

interface SocketServerOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  readonly prefaceTimeoutMs?: number;
}

export interface CsiServerOptions extends SocketServerOptions {
  readonly context: CsiContext;
  /** Further services on the same socket. */
  readonly otherServices?: (hooks: ServerHooks) => readonly Service[];
}

/** A service with its handlers. */
export interface Service {
  readonly addTo: (server: Server) => void;
}

export interface RunningServer {
  /** Refuses new connections and calls. Resolves when the running calls have ended. */
  drain(): Promise<void>;
  /** Ends the remaining calls and connections. */
  close(): Promise<void>;
}

/** Combines the definition of a service with its handlers. */
export function makeService<N extends ServiceName>(name: N, handlers: Handlers<N>): Service {
  return {
    addTo: (server) => {
      server.addService(serviceDefinition(name), handlers);
    },
  };
}

/** Serves all services of csi.v1 on the socket. Throws `unavailable` if it cannot be bound. */
export async function serveCsi(options: CsiServerOptions): Promise<RunningServer> {
  const { context, otherServices } = options;
  return serveOnSocket({
    ...options,
    fieldsOf: (request) => callFields(request, context.volumes),
    services: (hooks) => [...csiServices(context, hooks), ...(otherServices?.(hooks) ?? [])],
  });
}

/** Serves the services on the socket. Throws `unavailable` if it cannot be bound. */
export async function serveOnSocket(
  options: SocketServerOptions & {
    readonly services: (hooks: ServerHooks) => readonly Service[];
    readonly fieldsOf: ServerHooks['fieldsOf'];
  },
): Promise<RunningServer> {
  const { endpoint, log, callEnded, fieldsOf } = options;
  const hooks: ServerHooks = { log, callEnded, admit: limitCalls(maxRunningCalls), fieldsOf };
  const server = new Server(grpcOptions);
  for (const service of options.services(hooks)) service.addTo(server);

  // grpc-js's own listener limits neither the number of connections nor the time until the HTTP/2 preface.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = await listen({
    path: endpoint,
    maxConnections,
    prefaceTimeoutMs: options.prefaceTimeoutMs ?? 10_000,
    log,
    onConnection: (socket) => {
      injector.injectConnection(socket);
    },
  });
  return {
    drain: async () => {
      await listener.close();
      await new Promise<void>((resolve) => {
        server.tryShutdown(() => {
          resolve();
        });
      });
    },
    close: async () => {
      await listener.close();
      server.forceShutdown();
    },
  };
}

function csiServices(context: CsiContext, hooks: ServerHooks): readonly Service[] {
  const csi = <N extends CsiServiceName>(name: N, implementation: Implementation<N>): Service =>
    makeService(
      name,
      makeHandlers(name, implementation, hooks, {
        calls: offeredCalls(name, context.settings),
        checksSizeLimits: true,
      }),
    );
  return [
    csi('csi.v1.Identity', identityMethods(context)),
    csi('csi.v1.Controller', controllerMethods(context)),
    csi('csi.v1.GroupController', groupControllerMethods(context)),
    csi('csi.v1.SnapshotMetadata', snapshotMetadataMethods(context)),
    csi('csi.v1.Node', nodeMethods(context)),
  ];
}
