import type { Lane } from '../lane.ts';
import { callNumbers, constants } from './abi.ts';
import { call, libc } from './libc.ts';
import { mountTimeoutMs } from './time-limits.ts';

/**
 * Mounts the filesystem on `source` without a path (fsopen(2), fsconfig(2), fsmount(2)). Returns a descriptor; closing
 * it unmounts the filesystem. If the superblock is already active, this is another mount of it and must have the same
 * read-only flag: KernelError EBUSY otherwise. `onLate` closes a descriptor that arrives after the time limit.
 */
export async function mountDetached(
  lane: Lane,
  source: string,
  { fsType, readOnly }: { fsType: string; readOnly: boolean },
  onLate: (fd: number) => void,
): Promise<number> {
  const subject = source;
  const set = (fd: number, command: number, key: string | null, value: string | null) =>
    call(
      lane,
      { name: 'fsconfig', subject },
      libc().fsconfig,
      [callNumbers.fsconfig, fd, command, key, value, 0],
      { timeoutMs: mountTimeoutMs },
    );
  const context = await call(
    lane,
    { name: 'fsopen', subject },
    libc().fsopen,
    [callNumbers.fsopen, fsType, constants.FSOPEN_CLOEXEC],
    { onLate },
  );
  try {
    await set(context, constants.FSCONFIG_SET_STRING, 'source', source);
    // Otherwise an XFS with the UUID of a mounted one could not be mounted here either.
    if (fsType === 'xfs') await set(context, constants.FSCONFIG_SET_FLAG, 'nouuid', null);
    if (readOnly) await set(context, constants.FSCONFIG_SET_FLAG, 'ro', null);
    await set(context, constants.FSCONFIG_CMD_CREATE, null, null);
    const args = [callNumbers.fsmount, context, constants.FSMOUNT_CLOEXEC, 0];
    return await call(lane, { name: 'fsmount', subject }, libc().fsmount, args, { onLate });
  } finally {
    onLate(context);
  }
}
