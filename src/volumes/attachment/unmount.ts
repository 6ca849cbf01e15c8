import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host, LoopDevice, MountUser, TargetOptions } from '../../host/host.ts';

/**
 * Unmounts the topmost mount at `target`. If it is in use, throws `wrong-state` with the names of its users. `isFrozen`: the space
 * guard has frozen the filesystem. It then stays frozen, since a thaw for an unmount that fails would let its writers fill the
 * pool.
 */
export async function unmountVolume(
  host: Host,
  request: {
    readonly volumeId: string;
    readonly target: string;
    readonly options: TargetOptions;
    readonly isFrozen: boolean;
  },
): Promise<void> {
  const { volumeId, target, options, isFrozen } = request;
  try {
    await host.mounts.unmount(target, { ...options, keepFrozen: isFrozen });
  } catch (error) {
    if (!hasErrno(error, 'EBUSY')) throw error;
    throw (await busyError(host, { volumeId, target, cause: error })) ?? error;
  }
}

/** The error that names the users of the volume's mount at `target`; undefined if none can be found. */
async function busyError(
  host: Host,
  { volumeId, target, cause }: { volumeId: string; target: string; cause: unknown },
): Promise<VolumeError | undefined> {
  const table = await host.mounts.list();
  const top = table.findLast((mount) => mount.target === target);
  if (top === undefined) return undefined;
  const problem = `volume '${volumeId}' cannot be unmounted from ${target}`;
  const below = table.filter(({ parentId }) => parentId === top.id).map((mount) => mount.target);
  if (below.length > 0) {
    return new VolumeError(
      'wrong-state',
      `${problem}: ${below.join(', ')} is mounted below it; unmount that first`,
      { cause },
    );
  }
  const users = await host.users.ofMounts([top]).catch(() => []);
  if (users.length === 0) return undefined;
  const message = `${problem}: it is in use by ${formatUsers(users)}; end those processes, then repeat the call`;
  return new VolumeError('wrong-state', message, { cause });
}

/** Text that follows "in use": ` by dm-1 (group-volume), postgres (1234)`, or '' if no user can be found. */
export async function describeDeviceUsers(host: Host, device: LoopDevice): Promise<string> {
  const above = await host.users.devicesAbove(device).catch(() => []);
  const users = await host.users.ofDevice(device).catch(() => []);
  if (above.length + users.length === 0) return '';
  return ` by ${[...above, ...users.map(formatUser)].join(', ')}`;
}

/** `postgres (1234), bash (77)` */
function formatUsers(users: readonly MountUser[]): string {
  return users.map(formatUser).join(', ');
}

const formatUser = ({ command, pid }: MountUser): string => `${command} (${pid})`;
