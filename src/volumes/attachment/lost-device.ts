import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';

/** What is said of a block volume whose device somebody detached while its node was bound. */
const whatHappened = 'somebody else detached its device';

export function lostDeviceError(id: string, targets: readonly string[]): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}': ${whatHappened}, and what is bound at ${targets.join(', ')} is not the volume any more; ` +
      'unpublish and unstage it (end the pods that use it), then stage it again',
  );
}

/** The same for health. */
export function lostDeviceMessage(targets: readonly string[]): string {
  return `${whatHappened}, and what is bound at ${targets.join(', ')} is not the volume any more; restart the pods that use it`;
}

export function targetsOf(mounts: readonly Mount[]): readonly string[] {
  return [...new Set(mounts.map(({ target }) => target))];
}
