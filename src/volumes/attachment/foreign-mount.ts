import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';

/** For a path of a volume at which something is mounted that does not belong to it. */
export function foreignMountError(volumeId: string, { source, target }: Mount): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${volumeId}': something else (${source}) is mounted at ${target}; unmount it first`,
  );
}
