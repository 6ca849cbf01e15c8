/** Unix sockets that only this user can open, for every front that serves one. */
import { lstat, mkdir, rename, rm } from 'node:fs/promises';
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

/** A socket's name in its directory. */
export interface ListeningSocket {
  /** To be called with the server's `close`, which knows only the name that was bound. */
  remove(): Promise<void>;
}

/**
 * Lets `server` listen on the path. The directory is made when missing; a socket that a killed process left is replaced.
 * Throws `unavailable` when somebody answers there, or something else than a socket stands there.
 */
export async function listenOnSocket(server: Server, place: SocketPlace): Promise<ListeningSocket> {
  const { path } = place;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await requireReplaceable(place);
  await bind(server, place);
  const { ino: inode } = await lstat(path);
  return {
    remove: async () => {
      const found = await lstat(path).catch(() => undefined);
      // A successor's is left alone.
      if (found?.ino === inode) await rm(path, { force: true });
    },
  };
}

async function requireReplaceable({ path, flag, log }: SocketPlace): Promise<void> {
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
  log.info({ path }, 'the socket of a process that is gone is replaced');
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

/**
 * The socket is bound beside its place and moved there once it listens: who waits for the path to appear is never refused,
 * and where a stale one is replaced there is no moment without.
 */
async function bind(server: Server, { path, flag }: SocketPlace): Promise<void> {
  const beside = `${path}~`;
  await rm(beside, { force: true });
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
      server.listen(beside);
    } finally {
      process.umask(before);
    }
  });
  await rename(beside, path);
}
