/** The unix socket that everything is served on. */
import { createServer, type Socket } from 'node:net';
import type { Logger } from '../observe/log.ts';
import { listenOnSocket } from '../unix-socket.ts';

export interface SocketOptions {
  readonly path: string;
  /** Further connections are closed at once. */
  readonly maxConnections: number;
  /** A connection that has not sent its HTTP/2 preface after this long is closed. */
  readonly prefaceTimeoutMs: number;
  readonly log: Logger;
  readonly onConnection: (socket: Socket) => void;
}

export interface SocketListener {
  /** No new connections, and no socket any more; connections that are open stay. */
  close(): Promise<void>;
}

/** Bytes of the HTTP/2 connection preface (RFC 9113, section 3.4). */
const prefaceBytes = 24;

/** Listens on `path`, which only this user can open. Throws `unavailable` when it cannot be bound (../unix-socket.ts). */
export async function listen(options: SocketOptions): Promise<SocketListener> {
  const { path, log } = options;
  const server = createServer((socket) => {
    // The reset of a peer: HTTP/2 hears of it too, but not before it has taken the socket over.
    socket.on('error', (error) => log.debug({ err: error }, 'connection failed'));
    closeUnlessPreface(socket, options);
    options.onConnection(socket);
  });
  server.maxConnections = options.maxConnections;
  server.on('drop', () => {
    log.warn({ maxConnections: options.maxConnections }, 'connection refused: too many are open');
  });
  const socket = await listenOnSocket(server, { path, flag: '--endpoint', log });
  return {
    close: async () => {
      if (server.listening) server.close();
      await socket.remove();
    },
  };
}

/** A peer that says nothing would hold one of the connections for ever. */
function closeUnlessPreface(socket: Socket, { prefaceTimeoutMs, log }: SocketOptions): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead >= prefaceBytes) return;
    log.debug('connection closed: it never spoke HTTP/2');
    socket.destroy();
  }, prefaceTimeoutMs);
  timer.unref();
  socket.once('close', () => {
    clearTimeout(timer);
  });
}
