/** A gRPC server for connections that a listener accepts and passes on: on a unix socket (socket.ts), or with TLS (agent/). */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { serviceDefinition } from '../csi/codec.ts';
import type { Handlers, ServiceName } from '../csi/rpc-types.ts';
import type { Logger } from '../observe/log.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import { limitCalls, type ServerHooks } from './call.ts';
import { listen } from './socket.ts';

/** The sidecars, the kubelet, probes and a few commands use about a tenth of this number. */
const maxConnections = 128;
const maxRunningCalls = 1024;
/** Time limit for a client to send its HTTP/2 preface. */
export const defaultPrefaceTimeoutMs = 10_000;

const grpcOptions: ServerOptions = {
  // Most CSI requests have at most 20 KiB, but a request for a group snapshot lists its members with up to 128 bytes each.
  'grpc.max_receive_message_length': 1024 * 1024,
  // Without max_entries a page contains all volumes; 10,000 of them are 3 MiB.
  'grpc.max_send_message_length': 256 * 1024 * 1024,
  'grpc.max_concurrent_streams': 256,
  'grpc-node.max_session_memory': 16,
  'grpc.enable_channelz': 0,
};

/** How often an idle client is pinged, and how long it may take to answer, in milliseconds. */
export interface Keepalive {
  readonly pingMs: number;
  readonly timeoutMs: number;
}

/** Sidecars exit when their connection is closed, so an idle connection is only closed if pings are not answered. */
const socketKeepalive: Keepalive = { pingMs: 60_000, timeoutMs: 20_000 };

/** A service with its handlers. */
export interface Service {
  readonly addTo: (server: Server) => void;
}

/** Combines the definition of a service with its handlers. */
export function makeService<N extends ServiceName>(name: N, handlers: Handlers<N>): Service {
  return {
    addTo: (server) => {
      server.addService(serviceDefinition(name), handlers);
    },
  };
}

/** What can be stopped: a server, with or without its listener. */
export interface RunningServer {
  /** Refuses new connections and calls. Resolves when the running calls have ended. */
  drain(): Promise<void>;
  /** Ends the remaining calls and connections. */
  close(): Promise<void>;
}

/** What serves the connections that a listener has accepted. */
export interface ConnectionServer {
  /** Serves a connection from which nothing has been read. */
  serve(connection: Socket): void;
}

export interface GrpcServer extends RunningServer {
  /** Serves a connection on which the client sends its HTTP/2 preface next. */
  serve(connection: Duplex): void;
}

export function makeGrpcServer(
  services: readonly Service[],
  keepalive: Keepalive = socketKeepalive,
): GrpcServer {
  const server = new Server({
    ...grpcOptions,
    'grpc.keepalive_time_ms': keepalive.pingMs,
    'grpc.keepalive_timeout_ms': keepalive.timeoutMs,
  });
  for (const service of services) service.addTo(server);
  // grpc-js's own listener limits neither the number of connections nor the time until the HTTP/2 preface.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  return {
    serve: (connection) => {
      injector.injectConnection(connection);
    },
    drain: async () =>
      new Promise<void>((resolve) => {
        server.tryShutdown(() => {
          resolve();
        });
      }),
    close: async () => {
      server.forceShutdown();
    },
  };
}

/** How the calls of a server are logged and measured. */
export interface CallOptions {
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  /** Log fields that say what a request is about. */
  readonly fieldsOf: ServerHooks['fieldsOf'];
}

/** The hooks of one server, which has its own limit of running calls. */
export function makeHooks({ log, callEnded, fieldsOf }: CallOptions): ServerHooks {
  return { log, callEnded, fieldsOf, admit: limitCalls(maxRunningCalls) };
}

/** Serves the services on a unix socket. Throws `unavailable` if it cannot be bound. */
export async function serveOnSocket(
  options: CallOptions & {
    /** Path of the socket. */
    readonly endpoint: string;
    readonly services: (hooks: ServerHooks) => readonly Service[];
    readonly prefaceTimeoutMs?: number;
  },
): Promise<RunningServer> {
  const server = makeGrpcServer(options.services(makeHooks(options)));
  const listener = await listen({
    path: options.endpoint,
    maxConnections,
    prefaceTimeoutMs: options.prefaceTimeoutMs ?? defaultPrefaceTimeoutMs,
    log: options.log,
    onConnection: (socket) => {
      server.serve(socket);
    },
  });
  return {
    drain: async () => {
      await listener.close();
      await server.drain();
    },
    close: async () => {
      await listener.close();
      await server.close();
    },
  };
}
