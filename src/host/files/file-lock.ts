import { hasErrno } from '../errors.ts';
import { flock } from '../kernel/calls.ts';
import { closeHandle, closeQuietly, openFlags, openHandle } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** Acquires an exclusive flock(2), which ends with the process too. Creates a missing file. KernelError EAGAIN while it is locked. */
export async function lockFile(lane: Lane, path: string): Promise<{ release(): Promise<void> }> {
  // The lock lasts while the descriptor is open. The descriptor is close-on-exec, so no child inherits the lock.
  const handle = await openHandle(lane, path, openFlags.create).catch((error: unknown) => {
    // A directory can only be opened for reading.
    if (hasErrno(error, 'EISDIR')) return openHandle(lane, path, openFlags.directory);
    throw error;
  });
  try {
    await flock(lane, handle.fd, 'exclusive', path);
  } catch (error) {
    await closeQuietly(lane, handle, path);
    throw error;
  }
  let released = false;
  return {
    release: async () => {
      if (released) return;
      released = true;
      await closeHandle(lane, handle, path);
    },
  };
}
