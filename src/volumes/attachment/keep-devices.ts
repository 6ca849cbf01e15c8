import { VolumeError } from '../../errors.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import type { Attachment } from './attachment.ts';

/** Keeps the devices of a staged volume attached, even if another process asked for their detach. Throws `busy` if one was just detached. */
export async function keepDevices(
  domain: Domain,
  volume: FoundVolume,
  { readWrite, readOnly }: Attachment,
): Promise<void> {
  const { id, kind } = volume.record;
  for (const device of [readWrite, readOnly]) {
    if (device === undefined) continue;
    const isKept =
      kind === 'block'
        ? await domain.openDevices.open(device, id, volume.pool.name)
        : !device.autoclear || (await domain.host.loops.clearAutoclear(device));
    if (!isKept)
      throw new VolumeError(
        'busy',
        `volume '${id}': another process just detached ${device.path}; repeat the call`,
      );
  }
}
