/** The unix socket that everything is served on. */
import { lstat, mkdir, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { messageOf, VolumeError } from '../errors.ts';
import type { Logger } from '../observe/log.ts';

export interface SocketOptions {
  readonly path: string;
  /** Further connections are closed at once. */
  readonly maxConnections: number;
  /** A connection that has not sent its HTTP/2 preface after this long is closed. */
  readonly prefaceTimeoutMs: number;
  readonly log: Logger;
  readonly onConnection: (socket: Socket) => void;
}

/** Bytes of the HTTP/2 connection preface (RFC 9113, section 3.4). */
const prefaceBytes = 24;

/**
 * Listens on `path`, which only this user can open. The directory is made (mode 0700) when missing; a socket that a killed
 * process left is replaced. Throws `unavailable` when somebody answers there, or something else than a socket stands there.
 */
export async function listen(options: SocketOptions): Promise<Server> {
  const { path, log } = options;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await removeStale(path, log);
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
  await bind(server, path);
  return server;
}

async function removeStale(path: string, log: Logger): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VolumeError(
      'unavailable',
      `--endpoint: ${path} exists and is not a socket; remove it or choose another path`,
    );
  }
  if (await isAnswered(path)) {
    throw new VolumeError(
      'unavailable',
      `--endpoint: another process answers on ${path}; stop it or choose another path`,
    );
  }
  log.info({ path }, 'removed the socket of a process that is gone');
  await unlink(path);
}

async function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      // A full backlog (EAGAIN) is somebody too.
      else if (error.code === 'EAGAIN') resolve(true);
      else reject(new VolumeError('unavailable', `${path}: ${messageOf(error)}`, { cause: error }));
    });
  });
}

async function bind(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error) => {
      reject(
        new VolumeError('unavailable', `--endpoint: cannot listen on ${path}: ${messageOf(error)}`),
      );
    });
    // bind(2) takes the mode from the umask, and happens inside listen(): there is no moment in which others may open it.
    const before = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(before);
    }
  });
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
