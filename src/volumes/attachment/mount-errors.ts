import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';

/** The problem of a block volume whose device another process detached while its node was bound. */
const lostDevice = 'another process detached its device';

export function lostDeviceError(id: string, targets: readonly string[]): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}': ${lostDevice}, and the device bound at ${targets.join(', ')} no longer leads to the volume; ` +
      'unpublish and unstage it (end the pods that use it), then stage it again',
  );
}

/** The message of the health condition. */
export function lostDeviceMessage(targets: readonly string[]): string {
  return `${lostDevice}, and the device bound at ${targets.join(', ')} no longer leads to the volume; restart the pods that use it`;
}

export function targetsOf(mounts: readonly Mount[]): readonly string[] {
  return [...new Set(mounts.map(({ target }) => target))];
}

/** The error for a path of a volume at which something else is mounted. */
export function foreignMountError(volumeId: string, { source, target }: Mount): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${volumeId}': something else (${source}) is mounted at ${target}; unmount it first`,
  );
}
