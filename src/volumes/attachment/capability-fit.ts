import { VolumeError } from '../../errors.ts';
import type { Capability } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';

/** Throws an error with that reason if the request asks for a volume kind or filesystem that the volume does not have. */
export function requireMatchingCapability(
  volume: FoundVolume,
  capability: Capability,
  reason: 'wrong-state' | 'invalid' = 'wrong-state',
): void {
  const { id, kind, fsType, createdKind } = volume.record;
  if (capability.kind !== kind) {
    throw new VolumeError(
      reason,
      createdKind === 'block'
        ? `volume '${id}' was created as a block volume and has been staged as ${fsType ?? 'a filesystem'} since; unpublish and unstage it, then stage it as a block volume`
        : `volume '${id}' was created as a ${kind} volume and cannot be used as a ${capability.kind} volume`,
    );
  }
  if (capability.fsType !== '' && capability.fsType !== fsType) {
    throw new VolumeError(
      reason,
      `volume '${id}' has ${fsType ?? 'no filesystem'}, not ${capability.fsType}; request ${fsType ?? 'a block volume'}`,
    );
  }
}

/** The arguments of a stage or publish call that identify a repeated call. */
interface RecordedArguments {
  readonly accessMode: string;
  readonly mountFlags: readonly string[];
  readonly fsType: string;
}

/** Whether a call repeats a recorded one. An empty filesystem type matches any other. */
export function areSameArguments(recorded: RecordedArguments, wanted: RecordedArguments): boolean {
  return (
    recorded.accessMode === wanted.accessMode &&
    (recorded.fsType === wanted.fsType || recorded.fsType === '' || wanted.fsType === '') &&
    areSameFlags(recorded.mountFlags, wanted.mountFlags)
  );
}

/** Mount flags are a set: their order and repetitions do not matter. */
function areSameFlags(a: readonly string[], b: readonly string[]): boolean {
  return [...new Set(a)].sort().join(',') === [...new Set(b)].sort().join(',');
}
