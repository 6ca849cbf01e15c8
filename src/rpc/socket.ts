/** Listens on the unix socket of the gRPC server. */
import { createServer, type Socket } from 'node:net';
import type { Logger } from '../observe/log.ts';
import { listenOnSocket } from '../unix-socket.ts';

interface SocketOptions {
  readonly path: string;
  /** Connections beyond this number are closed immediately. */
  readonly maxConnections: number;
  /** Time limit for the client to send its HTTP/2 preface. */
  readonly prefaceTimeoutMs: number;
  readonly log: Logger;
  readonly onConnection: (socket: Socket) => void;
}

interface SocketListener {
  /** Refuses new connections and removes the socket. Open connections are kept. */
  close(): Promise<void>;
}

/** Bytes of the HTTP/2 connection preface (RFC 9113, section 3.4). */
const prefaceBytes = 24;

/** Listens on `path` with mode 0600. Throws `unavailable` if it cannot be bound (../unix-socket.ts). */
export async function listen(options: SocketOptions): Promise<SocketListener> {
  const { path, log } = options;
  const server = createServer((socket) => {
    // Handles errors such as ECONNRESET until an HTTP/2 session owns the socket.
    socket.on('error', ({ message }) => log.debug({ problem: message }, 'connection failed'));
    closeUnlessPreface(socket, options);
    options.onConnection(socket);
  });
  server.maxConnections = options.maxConnections;
  server.on('drop', () => {
    log.warn(
      { maxConnections: options.maxConnections },
      'connection was refused: too many were open',
    );
  });
  const socket = await listenOnSocket(server, { path, flag: '--endpoint', log });
  return {
    close: async () => {
      if (server.listening) server.close();
      await socket.remove();
    },
  };
}

/**
 * Closes the connection if its preface does not arrive in time. Otherwise, a silent client would occupy one of the
 * connections forever.
 */
function closeUnlessPreface(socket: Socket, { prefaceTimeoutMs, log }: SocketOptions): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead >= prefaceBytes) return;
    log.debug('connection without an HTTP/2 preface was closed');
    socket.destroy();
  }, prefaceTimeoutMs);
  timer.unref();
  socket.once('close', () => {
    clearTimeout(timer);
  });
}
