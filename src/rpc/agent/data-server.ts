/**
 * Sends the data of sources to other agents: one reading a connection, in frames. gRPC would allocate several times the memory of the data
 * that it sends.
 */
import type { Socket } from 'node:net';
import type { Volumes } from '../../volumes/api.ts';
import type { End, Piece } from '../../volumes/model.ts';
import { type Method, runStreamedCall, type ServerHooks } from '../call.ts';
import { type ConnectionServer, defaultPrefaceTimeoutMs, type Keepalive } from '../grpc-server.ts';
import {
  decodeRequest,
  maxRequestBytes,
  parseRequest,
  type ReceivedRequest,
} from './data-request.ts';
import { aliveFrame, encodeFrame, encodeHead, type Frame, FrameDecoder } from './frames.ts';
import { signsOfLife } from './keepalive.ts';
import type { Tickets } from './tickets.ts';

/** As a method of the service, for logs and metrics. The ticket is not part of what is logged. */
const method: Method = {
  service: 'loopcsi.agent.v1.Sources',
  rpc: 'Read',
  logClass: 'read',
  checkLimits: () => undefined,
  redactRequest: (request) => request,
  redactResponse: (response) => response,
};

export interface DataServerOptions {
  readonly volumes: Volumes;
  readonly tickets: Tickets;
  readonly hooks: ServerHooks;
  readonly keepalive: Keepalive;
  /** Time limit for a reader to send its request, and to leave after the last frame. */
  readonly requestTimeoutMs?: number;
}

export interface DataServer extends ConnectionServer {
  /** Ends all readings and connections. */
  close(): void;
}

export function makeDataServer(options: DataServerOptions): DataServer {
  const connections = new Set<Socket>();
  return {
    serve: (connection) => {
      connections.add(connection);
      connection.once('close', () => connections.delete(connection));
      serveReader(options, connection);
    },
    close: () => {
      for (const connection of connections) connection.destroy();
    },
  };
}

/** Waits for the request of a connection, and closes it if the reader hangs or sends something else. */
function serveReader(options: DataServerOptions, connection: Socket): void {
  const { hooks, keepalive, requestTimeoutMs = defaultPrefaceTimeoutMs } = options;
  const { sendMs, silentMs } = signsOfLife(keepalive);
  const decoder = new FrameDecoder({ maxBodyBytes: maxRequestBytes });
  const leave = (): void => {
    connection.destroy();
  };
  // A request that comes byte by byte must not prolong this.
  const unasked = setTimeout(leave, requestTimeoutMs);
  const silence = setTimeout(leave, silentMs);
  let alive: NodeJS.Timeout | undefined;
  let unneeded: NodeJS.Timeout | undefined;
  connection.once('close', () => {
    clearTimeout(unasked);
    clearTimeout(silence);
    clearTimeout(unneeded);
    clearInterval(alive);
  });
  const take = ({ kind, body }: Frame): void => {
    if (kind === 'alive') return;
    if (kind !== 'request' || alive !== undefined) throw new Error(`unexpected frame ${kind}`);
    clearTimeout(unasked);
    alive = setInterval(() => connection.write(aliveFrame), sendMs);
    void answer(options, connection, decodeRequest(body)).then(() => {
      // A reader that stays after the last frame would occupy one of the connections of agents.
      if (!connection.destroyed) unneeded = setTimeout(leave, requestTimeoutMs);
    });
  };
  connection.on('data', (bytes: Buffer) => {
    silence.refresh();
    try {
      for (const frame of decoder.decode(bytes)) take(frame);
    } catch (error) {
      hooks.log.debug({ err: error, peer: peerOf(connection) }, 'reader was disconnected');
      leave();
    }
  });
  // The head of a piece must not wait until data before it was acknowledged.
  connection.setNoDelay();
}

/** Never throws. The reader closes the connection after the last frame. */
async function answer(
  { volumes, tickets, hooks }: DataServerOptions,
  connection: Socket,
  request: ReceivedRequest,
): Promise<void> {
  const failure = await runStreamedCall<Piece | End>(method, hooks, {
    request: request.fields,
    deadline: Number.POSITIVE_INFINITY,
    peer: peerOf(connection),
    onCancelled: (listener) => connection.once('close', listener),
    messages: (call) => {
      const wanted = parseRequest(request);
      tickets.require(request.ticket, { copy: wanted.copy, peer: call.peer });
      return volumes.readSource(call, wanted);
    },
    send: (step, signal) => send(connection, step, signal),
  });
  if (failure === undefined || connection.destroyed) return;
  const { code, details } = failure;
  const body = Buffer.from(details);
  connection.write(encodeFrame({ kind: 'failure', value: BigInt(code), body }));
}

/** Resolves when the kernel has taken all of it, or the reader has left. */
async function send(connection: Socket, step: Piece | End, signal: AbortSignal): Promise<void> {
  if (!('data' in step)) {
    const { sizeBytes: value, digest } = step;
    return write(connection, encodeHead({ kind: 'end', value, digest }), signal);
  }
  const { offset: value, digest, data: body } = step;
  connection.write(encodeHead({ kind: 'data', value, digest, body }));
  return write(connection, body, signal);
}

async function write(connection: Socket, bytes: Buffer, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    signal.addEventListener('abort', done);
    connection.write(bytes, done);
  });
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return [remoteAddress, remotePort].join(':');
}
