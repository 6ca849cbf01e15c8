import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { serviceDefinition } from '../csi/codec.ts';
import type { Handlers, ServiceName } from '../csi/rpc-types.ts';
import type { Logger } from '../observe/log.ts';
import { type CsiServiceName, callsOf } from './advertised.ts';
import { Admission, type Edge, type EndedCall } from './call.ts';
import type { Front } from './context.ts';
import { controllerService } from './controller.ts';
import { groupControllerService } from './group-controller.ts';
import { handlersOf, type Implementation } from './handlers.ts';
import { identityService } from './identity.ts';
import { nodeService } from './node.ts';
import { snapshotMetadataService } from './snapshot-metadata.ts';
import { listen } from './socket.ts';

/** A provisioner, a snapshotter, a resizer, a kubelet, a probe and some commands: a tenth of this. */
const maxConnections = 128;
const maxRunningCalls = 1024;

const grpcOptions: ServerOptions = {
  // The largest request of CSI is some 20 KiB; a group snapshot names its members, at 128 bytes each.
  'grpc.max_receive_message_length': 1024 * 1024,
  // A page of all volumes when the caller bounds nothing: 10,000 of them are 3 MiB.
  'grpc.max_send_message_length': 256 * 1024 * 1024,
  'grpc.max_concurrent_streams': 256,
  'grpc-node.max_session_memory': 16,
  // Sidecars end when their connection is closed, so an idle one stays; only a peer that answers no ping goes.
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.enable_channelz': 0,
};

export interface ServeOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  readonly front: Front;
  readonly log: Logger;
  readonly callEnded: (call: EndedCall) => void;
  /** Services beside CSI's on the same socket; the wrapper is the same. */
  readonly others?: (edge: Edge) => readonly Service[];
  readonly prefaceTimeoutMs?: number;
}

/** A service as grpc-js takes it. */
export interface Service {
  readonly addTo: (server: Server) => void;
}

export interface RunningServer {
  /** No new connections and no new calls; resolves when the running calls have ended. */
  drain(): Promise<void>;
  /** Ends what is left. */
  close(): Promise<void>;
}

/** Ties a service's definition to its handlers. */
export function service<N extends ServiceName>(name: N, handlers: Handlers<N>): Service {
  return {
    addTo: (server) => {
      server.addService(serviceDefinition(name), handlers);
    },
  };
}

/** Serves all services of csi.v1 on the socket. Throws `unavailable` when it cannot be bound. */
export async function serveCsi(options: ServeOptions): Promise<RunningServer> {
  const { endpoint, front, log, callEnded } = options;
  const edge: Edge = { log, callEnded, admission: new Admission(maxRunningCalls) };
  const server = new Server(grpcOptions);
  const services = [...csiServices(front, edge), ...(options.others?.(edge) ?? [])];
  for (const one of services) one.addTo(server);

  // Our own listener, since that of grpc-js bounds neither connections nor silence.
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

function csiServices(front: Front, edge: Edge): readonly Service[] {
  const csi = <N extends CsiServiceName>(name: N, implementation: Implementation<N>): Service =>
    service(
      name,
      handlersOf(name, implementation, edge, {
        calls: callsOf(name, front.settings),
        limited: true,
      }),
    );
  return [
    csi('csi.v1.Identity', identityService(front)),
    csi('csi.v1.Controller', controllerService(front)),
    csi('csi.v1.GroupController', groupControllerService(front)),
    csi('csi.v1.SnapshotMetadata', snapshotMetadataService(front)),
    csi('csi.v1.Node', nodeService(front)),
  ];
}
