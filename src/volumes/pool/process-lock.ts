import { join } from 'node:path';
import { type Reason, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import { poolFiles } from './layout.ts';

export interface ProcessLock {
  release(): Promise<void>;
}

/** Locks a file or directory that only one process may use. Throws the given error while another process uses it. */
export async function lockForProcess(
  files: Files,
  path: string,
  whenLocked: { readonly reason: Reason; readonly message: string },
): Promise<ProcessLock> {
  try {
    return await files.lock(path);
  } catch (error) {
    if (!hasErrno(error, 'EAGAIN')) throw error;
    throw new VolumeError(whenLocked.reason, whenLocked.message, { cause: error });
  }
}

/** Locks the pool at `root`. Throws an error with that reason while another process serves the pool. */
export function lockPool(
  files: Files,
  pool: { readonly name: string; readonly root: string },
  reason: 'busy' | 'unavailable',
): Promise<ProcessLock> {
  const { name, root } = pool;
  const message = `pool '${name}': ${root} is served by another loopcsi process; stop that process first`;
  return lockForProcess(files, join(root, poolFiles.lock), { reason, message });
}
