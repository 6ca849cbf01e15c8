/** Unix sockets that only this user can open, for every front that serves one. */
import { lstat, mkdir, unlink } from 'node:fs/promises';
import type { Server } from 'node:net';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { messageOf, VolumeError } from './errors.ts';
import type { Logger } from './observe/log.ts';

export interface SocketPlace {
  readonly path: string;
  /** The option that named the path, for messages. */
  readonly flag: string;
  readonly log: Logger;
}

/**
 * Lets `server` listen on the path. The directory is made when missing; a socket that a killed process left is replaced.
 * Throws `unavailable` when somebody answers there, or something else than a socket stands there.
 */
export async function listenOnSocket(server: Server, place: SocketPlace): Promise<void> {
  await mkdir(dirname(place.path), { recursive: true, mode: 0o700 });
  await removeStale(place);
  await bind(server, place);
}

async function removeStale({ path, flag, log }: SocketPlace): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VolumeError(
      'unavailable',
      `${flag}: ${path} exists and is not a socket; remove it or choose another path`,
    );
  }
  if (await isAnswered(path)) {
    throw new VolumeError(
      'unavailable',
      `${flag}: another process answers on ${path}; stop it or choose another path`,
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

async function bind(server: Server, { path, flag }: SocketPlace): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error) => {
      reject(
        new VolumeError('unavailable', `${flag}: cannot listen on ${path}: ${messageOf(error)}`),
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
