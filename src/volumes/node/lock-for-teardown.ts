import { VolumeError } from '../../errors.ts';
import { withVolumeLock } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { FoundVolume } from '../pool/pool.ts';

/** Runs a call that unmounts the volume at `path`. `work` gets the volume, or undefined if there is no usable record. */
export async function lockForTeardown(
  domain: Domain,
  call: Call,
  { name, path, request }: { name: string; path: string; request: { readonly volumeId: string } },
  work: (domain: Domain, volume: FoundVolume | undefined) => Promise<void>,
): Promise<void> {
  const { volumeId } = request;
  const find = (): FoundVolume | undefined => findIfReachable(domain, volumeId);
  const volumeCall = { name, volumeId, targets: [path], request, find };
  await withVolumeLock(domain, call, volumeCall, async (domain, volume, operation) => {
    operation.beginEffects();
    await work(domain, volume);
  });
}

/**
 * Returns undefined if the record is missing or unreadable, or if its pool is not served, because pods must be able to terminate
 * even then.
 */
function findIfReachable(domain: Domain, volumeId: string): FoundVolume | undefined {
  try {
    return domain.pools.findEphemeral(volumeId) ?? domain.pools.getVolume(volumeId);
  } catch (error) {
    if (error instanceof VolumeError) return undefined;
    throw error;
  }
}
