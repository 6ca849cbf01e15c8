/** Changes of a file that several processes of loopcsi share. */
import { retry } from './async.ts';
import { VolumeError } from './errors.ts';

/** Time limit for acquiring the lock. A change takes a few milliseconds; on a busy disk, as long as an fsync. */
const lockTimeoutMs = 10_000;
const lockRetryMs = 10;

/** Acquires an exclusive flock(2) without waiting. Fails with errno EAGAIN while another process has it. */
type Lock = (path: string) => Promise<{ release(): Promise<void> }>;

/**
 * Runs `change` while no other process changes the file at `path`. The lock is that of a file beside it, because the file itself is
 * replaced. Throws `unavailable` if another process has the lock for too long.
 */
export async function changeSharedFile<T>(
  path: string,
  lock: Lock,
  change: () => Promise<T>,
): Promise<T> {
  const held = await waitForLock(`${path}.lock`, lock);
  try {
    return await change();
  } finally {
    await held.release();
  }
}

async function waitForLock(path: string, lock: Lock): ReturnType<Lock> {
  try {
    return await retry(() => lock(path), {
      isTransient: isLockedElsewhere,
      timeoutMs: lockTimeoutMs,
      pauseMs: lockRetryMs,
    });
  } catch (error) {
    if (!isLockedElsewhere(error)) throw error;
    const message = `another loopcsi process has had ${path} locked for more than ${lockTimeoutMs / 1000} s; examine that process`;
    throw new VolumeError('unavailable', message, { cause: error });
  }
}

function isLockedElsewhere(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && error.errno === 'EAGAIN';
}
