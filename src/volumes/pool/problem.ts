import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError, mayBeStorageFailure, StuckError } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import type { PoolSettings } from './settings.ts';

interface NamedPool {
  readonly name: string;
  readonly settings: PoolSettings;
}

/**
 * Makes a directory in the `tmp/` of the pool at `root`, durable, and removes it. Only that tells of a filesystem that the kernel
 * has stopped after an error: ext4 and btrfs still answer what they have cached. A full one is well. Throws what the kernel says.
 */
export async function tryChange(files: Files, root: string): Promise<void> {
  const tmp = join(root, 'tmp');
  const trial = join(tmp, `.trial.${randomUUID()}`);
  try {
    await files.makeNewDirectory(trial);
    await files.sync(trial, tmp);
    await files.removeTree(trial);
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
  }
}

/** Why a pool could not be opened. */
export function whyNotOpened(pool: NamedPool, error: unknown): VolumeError {
  if (error instanceof VolumeError) return error;
  return unavailable(pool.name, stopped(pool, error) ?? messageOf(error), error);
}

/** Why a pool that was served is served no more. */
export function whyUnavailable(pool: NamedPool, error: unknown): VolumeError {
  if (error instanceof VolumeError) return unavailable(pool.name, error.message, error);
  if (error instanceof StuckError) {
    const silent = `${pool.settings.path} does not answer (${error.message}); check its disk`;
    return unavailable(pool.name, silent, error);
  }
  const gone = `${pool.settings.path} is gone (${messageOf(error)}); mount its disk again`;
  return unavailable(pool.name, stopped(pool, error) ?? gone, error);
}

/** That its filesystem is there and does not work, and how it gets to work again. */
function stopped({ settings }: NamedPool, error: unknown): string | undefined {
  if (!mayBeStorageFailure(error)) return undefined;
  // Without the path, which may be a scratch file's: the same trouble has the same text, and is logged once.
  const what = error instanceof KernelError ? `${error.syscall}: ${error.errno}` : messageOf(error);
  return `the filesystem of ${settings.path} has failed or is read-only (${what}); check its disk and the kernel's log, end what uses its volumes, then unmount, check and mount it again`;
}

/** Of a pool that is not served. */
export function unavailable(name: string, why: string, cause?: unknown): VolumeError {
  return new VolumeError('unavailable', `pool '${name}': ${why}`, { cause });
}

/** That the disk of a pool has not answered for so long. */
export function notAnswering({ name, settings }: NamedPool, ms: number): VolumeError {
  return new VolumeError(
    'unavailable',
    `pool '${name}': ${settings.path} does not answer for ${ms / 1000} s; check its disk`,
  );
}
