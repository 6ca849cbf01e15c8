import { VolumeError } from '../../errors.ts';
import { attachmentOf, isMountedAt } from '../attachment/attachment.ts';
import { stagingMountPaths } from '../attachment/staging-path.ts';
import { checkedTargetPath } from '../attachment/target-path.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import type { VolumeStats } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';

/** CSI spec, NodeGetVolumeStats. Throws `not-found` if the volume is not mounted at the path. A block volume has only a total. */
export async function volumeStats(
  domain: Domain,
  input: { volumeId: string; volumePath: string },
): Promise<VolumeStats> {
  const { volumeId } = input;
  const volume = domain.pools.findEphemeral(volumeId) ?? domain.pools.getVolume(volumeId);
  // No volume can be mounted at a path that is refused as a target, so the error is `not-found` instead of `invalid`.
  const volumePath = await checkedTargetPath(domain, input.volumePath, 'volume_path').catch(
    () => input.volumePath,
  );
  const lane = { kind: 'stats', id: volumeId, pool: volume.pool.name } as const;
  return withReason(
    inLane(domain, lane),
    { subject: `volume '${volumeId}'`, disk: volume.pool },
    (domain) => statsOf(domain, volume, volumePath),
  );
}

async function statsOf(
  domain: Domain,
  volume: FoundVolume,
  volumePath: string,
): Promise<VolumeStats> {
  const { record } = volume;
  const attachment = await attachmentOf(domain, volume);
  if (!stagingMountPaths(volumePath).some((path) => isMountedAt(attachment, path))) {
    throw new VolumeError(
      'not-found',
      `volume '${record.name}' is not mounted at ${volumePath}; use the path where it is staged or published`,
    );
  }
  if (record.kind === 'block') {
    return {
      kind: 'block',
      totalBytes: attachment.devices[0]?.sizeBytes ?? record.sizeBytes,
      usedBytes: 0n,
      availableBytes: 0n,
      totalInodes: 0n,
      usedInodes: 0n,
      availableInodes: 0n,
    };
  }
  const capacity = await domain.host.files.capacity(volumePath);
  return {
    kind: 'mount',
    totalBytes: capacity.totalBytes,
    usedBytes: capacity.totalBytes - capacity.freeBytes,
    availableBytes: capacity.availableBytes,
    totalInodes: capacity.totalInodes,
    usedInodes: capacity.totalInodes - capacity.freeInodes,
    availableInodes: capacity.freeInodes,
  };
}
