import { VolumeError } from '../../errors.ts';
import { ext4MaxGrowthFactor } from '../../host/filesystem/ext4/superblock.ts';
import { type VolumeRecord, volumeRecord, writeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { attachmentOf, imageStatusOf } from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import {
  growImageToPromisedSize,
  isSmaller,
  recordSize,
  recoverImage,
  requireNotTruncated,
} from '../attachment/prepare-image.ts';
import { chooseCapacity } from '../capacity.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { ExpandInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * CSI spec, ControllerExpandVolume: the promise first (record), then the image. Big enough already is fine. The node has work
 * left while a filesystem or an attached device is smaller.
 */
export async function expandVolume(
  domain: Domain,
  call: Call,
  input: ExpandInput,
): Promise<{ sizeBytes: bigint; nodeExpansionRequired: boolean }> {
  const asked = {
    name: 'ControllerExpandVolume',
    volumeId: input.volumeId,
    request: input,
  };
  return changeVolume(domain, call, asked, async (volume, operation) => {
    if (input.capability !== undefined)
      requireMatchingCapability(volume, input.capability, 'invalid');
    const grown = await expandImage(domain, volume, input, () => {
      operation.beginEffects();
    });
    const nodeExpansionRequired = await hasNodeWork(domain, grown);
    return { sizeBytes: grown.record.sizeBytes, nodeExpansionRequired };
  });
}

/** Reserves the room, writes the promise, grows the image, writes that it has grown. A repeat finishes what a crash left. */
export async function expandImage(
  domain: Domain,
  volume: FoundVolume,
  input: ExpandInput,
  beginEffects: () => void,
): Promise<FoundVolume> {
  const { pool, record } = volume;
  pool.requireServed();
  const what = `volume '${record.id}'`;
  const { requiredBytes, limitBytes } = input.range;
  if (limitBytes > 0n && limitBytes < record.sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what} has ${formatBytes(record.sizeBytes)} already and cannot shrink to the limit of ${formatBytes(limitBytes)}`,
    );
  }
  const sizeBytes = chooseCapacity(
    {
      requiredBytes: requiredBytes > record.sizeBytes ? requiredBytes : record.sizeBytes,
      limitBytes,
    },
    { minBytes: minGrownBytesOf(domain, record, requiredBytes), what },
  );
  const { devices } = await attachmentOf(domain, volume);
  await recoverImage(domain, volume, devices);
  const allocate = record.provisioning === 'thick';
  if (sizeBytes <= record.sizeBytes) {
    beginEffects();
    // A crash, or a full pool, may have stopped an earlier call after its promise.
    await growImageToPromisedSize(domain, volume);
    return volume;
  }
  const image = await imageStatusOf(domain, volume);
  await requireNotTruncated(domain, volume, image);
  await requireFactor(domain, volume, sizeBytes);
  await requireWithinPool(volume, sizeBytes);
  beginEffects();
  const reservation = await pool.space.reserve(sizeBytes - record.sizeBytes, what, { allocate });
  try {
    const isWhole = image.sizeBytes >= record.sizeBytes;
    const grown = {
      ...record,
      sizeBytes,
      ...(isWhole ? { reachedBytes: record.sizeBytes } : {}),
    };
    await writeRecord(domain.host.files, pool.recordPathOf(volume.area, record.id), {
      schema: volumeRecord,
      value: grown,
    });
    pool.volumes.put(grown);
    await domain.reached('expand:promised');
    await domain.host.files.growImage(volume.imagePath, { sizeBytes, allocate });
    await domain.reached('expand:image-grown');
    return await recordSize(domain, { ...volume, record: grown });
  } finally {
    reservation.release();
  }
}

/** What the volume has is enough as long as it does not grow; btrfs grows to 256 MiB or more. */
function minGrownBytesOf(domain: Domain, record: VolumeRecord, requiredBytes: bigint): bigint {
  if (record.fsType === null || requiredBytes <= record.sizeBytes) return record.sizeBytes;
  return domain.host.filesystems[record.fsType].minGrownBytes;
}

async function requireFactor(
  domain: Domain,
  volume: FoundVolume,
  sizeBytes: bigint,
): Promise<void> {
  if (volume.record.fsType !== 'ext4') return;
  const superblock = await domain.host.filesystems.ext4.readSuperblock(volume.imagePath);
  const present = superblock?.sizeBytes ?? volume.record.sizeBytes;
  if (sizeBytes <= present * ext4MaxGrowthFactor) return;
  throw new VolumeError(
    'out-of-range',
    `volume '${volume.record.id}': ext4 grows at most ${ext4MaxGrowthFactor} times at once, from ${formatBytes(present)} to ` +
      `${formatBytes(present * ext4MaxGrowthFactor)}; grow it to that first, or make a new volume`,
  );
}

/** More than the pool could ever promise is out of range; what only others' promises prevent is a lack of room. */
async function requireWithinPool(volume: FoundVolume, sizeBytes: bigint): Promise<void> {
  const facts = await volume.pool.space.facts();
  const most = ((facts.totalBytes - facts.reserveBytes) * BigInt(facts.overcommitPerMille)) / 1000n;
  if (sizeBytes <= most) return;
  throw new VolumeError(
    'out-of-range',
    `volume '${volume.record.id}': ${formatBytes(sizeBytes)} is more than pool '${volume.pool.name}' can ever promise, ${formatBytes(most)}; ask for less, or enlarge the pool`,
  );
}

/** Whether the device or the filesystem is still smaller than the promise. */
async function hasNodeWork(domain: Domain, volume: FoundVolume): Promise<boolean> {
  const { record } = volume;
  const { devices } = await attachmentOf(domain, volume);
  if (devices.some((device) => device.sizeBytes < record.sizeBytes)) return true;
  if (record.fsType === null) return false;
  const superblock = await domain.host.filesystems[record.fsType].readSuperblock(volume.imagePath);
  return superblock === undefined || isSmaller(superblock, record.sizeBytes);
}
