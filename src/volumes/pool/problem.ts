import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError, mayBeStorageFailure, StuckError } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import { areaIn, makeTrialName } from './layout.ts';
import type { PoolSettings } from './settings.ts';

interface NamedPool {
  readonly name: string;
  readonly settings: PoolSettings;
}

/**
 * Creates, syncs and removes a directory in the `tmp/` of the pool at `root`. Only a write detects a filesystem that the kernel has
 * shut down after an error: ext4 and btrfs still answer reads from their caches. A full filesystem passes. Throws the kernel's
 * error.
 */
export async function probeWrite(files: Files, root: string): Promise<void> {
  const tmp = areaIn(root, 'tmp');
  const trial = join(tmp, makeTrialName());
  try {
    await files.makeNewDirectory(trial);
    await files.sync(trial, tmp);
    await files.removeTree(trial);
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
  }
}

/** The error of a pool that could not be opened. */
export function openingError(pool: NamedPool, error: unknown): VolumeError {
  if (error instanceof VolumeError) return error;
  return unavailableError(
    pool.name,
    filesystemFailureMessage(pool, error) ?? messageOf(error),
    error,
  );
}

/** The error of a pool that has failed a check and is no longer served. */
export function failedCheckError(pool: NamedPool, error: unknown): VolumeError {
  if (error instanceof VolumeError) return unavailableError(pool.name, error.message, error);
  if (error instanceof StuckError) {
    const hung = `${pool.settings.path} does not answer (${error.message}); check its disk`;
    return unavailableError(pool.name, hung, error);
  }
  const notMounted = `${pool.settings.path} cannot be read (${messageOf(error)}); mount its disk again`;
  return unavailableError(pool.name, filesystemFailureMessage(pool, error) ?? notMounted, error);
}

/** The message for a filesystem that is mounted but has failed; undefined for any other error. */
function filesystemFailureMessage({ settings }: NamedPool, error: unknown): string | undefined {
  if (!mayBeStorageFailure(error)) return undefined;
  // Without the path, which may be that of a temporary file: equal problems must have equal messages, so that they are logged once.
  const failure =
    error instanceof KernelError ? `${error.syscall}: ${error.errno}` : messageOf(error);
  return `the filesystem of ${settings.path} has failed or is read-only (${failure}); check its disk and the kernel's log, end the processes that use its volumes, then unmount, check and mount it again`;
}

/** The error of a pool that is not served. */
export function unavailableError(name: string, why: string, cause?: unknown): VolumeError {
  return new VolumeError('unavailable', `pool '${name}': ${why}`, { cause });
}

/** The error of a pool whose disk has not answered for `ms` milliseconds. */
export function notAnsweringError({ name, settings }: NamedPool, ms: number): VolumeError {
  return new VolumeError(
    'unavailable',
    `pool '${name}': ${settings.path} has not answered for ${ms / 1000} s; check its disk`,
  );
}
