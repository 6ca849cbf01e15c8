/** Listens on unix sockets with mode 0600. */
import { lstat, mkdir, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { messageOf, VolumeError } from './errors.ts';
import type { Logger } from './observe/log.ts';

interface SocketAddress {
  readonly path: string;
  /** The option that set the path, for error messages. */
  readonly flag: string;
  readonly log: Logger;
}

interface ListeningSocket {
  /**
   * Removes the socket file. Call it after closing the server, whose `close` unlinks only the temporary name that was
   * bound.
   */
  remove(): Promise<void>;
}

/**
 * Makes `server` listen on the path. Creates the directory if it is missing, and replaces a socket left by a killed
 * process. Throws `unavailable` if a process answers on the socket, or if the path exists and is not a socket.
 */
export async function listenOnSocket(
  server: Server,
  address: SocketAddress,
): Promise<ListeningSocket> {
  const { path } = address;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await requireReplaceable(address);
  await bind(server, address);
  const { ino: inode } = await lstat(path);
  return {
    remove: async () => {
      const found = await lstat(path).catch(() => undefined);
      // A later driver may have replaced the socket already.
      if (found?.ino === inode) await rm(path, { force: true });
    },
  };
}

async function requireReplaceable({ path, flag, log }: SocketAddress): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VolumeError(
      'unavailable',
      `${flag}: ${path} exists and is not a socket; remove it or choose another path`,
    );
  }
  await requireNoListener({ path, flag });
  log.info({ path }, 'stale socket of a killed process was found');
}

/**
 * Throws `unavailable` if a process answers on the socket. A driver calls it before it opens its pools, whose locks would only show
 * that they are in use.
 */
export async function requireNoListener({
  path,
  flag,
}: Pick<SocketAddress, 'path' | 'flag'>): Promise<void> {
  if (!(await hasListener(path))) return;
  throw new VolumeError(
    'unavailable',
    `${flag}: another process answers on ${path}; stop it (a driver on a terminal with Ctrl-C, the service with 'systemctl stop loopcsi') or choose another path`,
  );
}

async function hasListener(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      // EAGAIN: a listener exists, but its backlog is full.
      else if (error.code === 'EAGAIN') resolve(true);
      else reject(new VolumeError('unavailable', `${path}: ${messageOf(error)}`, { cause: error }));
    });
  });
}

/**
 * Binds a temporary name and renames it once the server listens: clients that wait for the path to appear never get
 * ECONNREFUSED, and there is no gap while a stale socket is replaced.
 */
async function bind(server: Server, { path, flag }: SocketAddress): Promise<void> {
  const temporary = `${path}~`;
  await rm(temporary, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error) => {
      reject(
        new VolumeError('unavailable', `${flag}: cannot listen on ${path}: ${messageOf(error)}`),
      );
    });
    // bind(2) applies the umask to the mode, so the socket is never open to other users. listen() calls bind(2)
    // synchronously.
    const previousUmask = process.umask(0o177);
    try {
      server.listen(temporary);
    } finally {
      process.umask(previousUmask);
    }
  });
  await rename(temporary, path);
}
