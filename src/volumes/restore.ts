import { VolumeError } from '../errors.ts';
import type { Domain } from './domain.ts';
import type { VolumeId } from './ids.ts';
import type { CreateVolumeInput, Volume } from './model.ts';
import type { Operation } from './operations.ts';

/** Restore of a snapshot or clone of a volume (CSI spec, CreateVolume with `volume_content_source`). */
export async function createFromSource(
  _domain: Domain,
  _operation: Operation,
  draft: { id: VolumeId; input: CreateVolumeInput },
): Promise<Volume> {
  throw new VolumeError(
    'invalid',
    `volume '${draft.input.name}': this driver does not make volumes from a ${draft.input.source?.kind ?? 'source'} yet`,
  );
}
