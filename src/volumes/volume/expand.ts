import { VolumeError } from '../../errors.ts';
import type { Host, ImageStatus } from '../../host/host.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { attachmentOf, imageStatusOf } from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import { readNodeState } from '../attachment/node-state.ts';
import {
  growImageToPromisedSize,
  isSmaller,
  recordReachedSize,
  recoverImage,
  requireNotTruncated,
} from '../attachment/prepare-image.ts';
import { type CapacityRange, chooseCapacity, findGrowthLimit } from '../capacity.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { ExpandInput, Expansion } from '../model.ts';
import { rewriteRecord } from '../pool/commit.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { reserveBytesOf } from '../pool/space.ts';

/**
 * CSI spec, ControllerExpandVolume: records the promised size, then grows the image. Succeeds if the volume is already large
 * enough. Node expansion is required while the filesystem or device of a staged volume is smaller than the promised size. A volume
 * that is not staged needs none: its next stage grows it before it can be published (ADR 0028).
 */
export async function expandVolume(
  domain: Domain,
  call: Call,
  input: ExpandInput,
): Promise<Expansion> {
  const volumeCall = {
    name: 'ControllerExpandVolume',
    volumeId: input.volumeId,
    request: input,
  };
  return changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    // A PersistentVolume with a filesystem may exist before a stage has found it in its block volume (ADR 0032).
    const mayBecome = volume.record.kind === 'block' && input.capability?.kind === 'mount';
    if (input.capability !== undefined && !mayBecome)
      requireMatchingCapability(volume, input.capability, 'invalid');
    const grown = await expandImage(domain, volume, input, () => {
      operation.beginEffects();
    });
    const remaining = await findRemainingGrowth(domain, grown);
    return { sizeBytes: grown.record.sizeBytes, remaining };
  });
}

/**
 * Reserves the space, records the promised size, grows the image, and records that it has grown. A repeated call completes an
 * interrupted growth.
 */
export async function expandImage(
  domain: Domain,
  volume: FoundVolume,
  input: ExpandInput,
  beginEffects: () => void,
): Promise<FoundVolume> {
  const { pool, record } = volume;
  pool.requireServed();
  const subject = `volume '${record.id}'`;
  const sizeBytes = chooseGrownSize(domain, record, input.range);
  const { devices } = await attachmentOf(domain, volume);
  await recoverImage(domain, volume, devices);
  if (sizeBytes <= record.sizeBytes) {
    beginEffects();
    // A crash or a full pool may have interrupted an earlier growth after the promised size was recorded.
    await growImageToPromisedSize(domain, volume);
    return volume;
  }
  const image = await imageStatusOf(domain.host.files, volume);
  await requireNotTruncated(domain, volume, image);
  await requireGrowthFactor(domain.host.filesystems, volume, sizeBytes);
  await requirePromisable(volume, sizeBytes);
  beginEffects();
  const allocate = record.provisioning === 'thick';
  const reservation = await pool.space.reserve(sizeBytes - record.sizeBytes, subject, { allocate });
  try {
    const promised = await recordPromise(domain, volume, { sizeBytes, image });
    await domain.reached('expand:promised');
    await domain.host.files.growImage(volume.imagePath, { sizeBytes, allocate });
    await domain.reached('expand:image-grown');
    return await recordReachedSize(domain, promised);
  } finally {
    reservation.release();
  }
}

function chooseGrownSize(domain: Domain, record: VolumeRecord, range: CapacityRange): bigint {
  const { requiredBytes, limitBytes } = range;
  const subject = `volume '${record.id}'`;
  if (limitBytes > 0n && limitBytes < record.sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject} already has ${formatBytes(record.sizeBytes)} and cannot shrink to the limit of ${formatBytes(limitBytes)}`,
    );
  }
  return chooseCapacity(
    {
      requiredBytes: requiredBytes > record.sizeBytes ? requiredBytes : record.sizeBytes,
      limitBytes,
    },
    { minBytes: minGrownBytesOf(domain, record, requiredBytes), subject },
  );
}

/** Records the promised size before the image grows, so that a crash leaves an interrupted growth, which can be completed. */
async function recordPromise(
  domain: Domain,
  volume: FoundVolume,
  { sizeBytes, image }: { sizeBytes: bigint; image: ImageStatus },
): Promise<FoundVolume> {
  const { pool, area, record } = volume;
  const hasReachedSize = image.sizeBytes >= record.sizeBytes;
  const promised = {
    ...record,
    sizeBytes,
    ...(hasReachedSize ? { reachedBytes: record.sizeBytes } : {}),
  };
  await rewriteRecord(domain.host.files, { pool, area, schema: volumeRecord }, promised);
  return { ...volume, record: promised };
}

/**
 * Returns the minimum size after a growth: btrfs can only grow to 256 MiB or more. If the volume does not grow, its present size
 * is sufficient.
 */
function minGrownBytesOf(domain: Domain, record: VolumeRecord, requiredBytes: bigint): bigint {
  if (record.fsType === null || requiredBytes <= record.sizeBytes) return record.sizeBytes;
  return domain.host.filesystems[record.fsType].minGrownBytes;
}

async function requireGrowthFactor(
  filesystems: Host['filesystems'],
  { record, imagePath }: FoundVolume,
  sizeBytes: bigint,
): Promise<void> {
  const { id, fsType } = record;
  if (fsType === null) return;
  const image = { path: imagePath, sizeBytes: record.sizeBytes };
  const limit = await findGrowthLimit(filesystems, fsType, image);
  if (limit === undefined || sizeBytes <= limit.maxBytes) return;
  throw new VolumeError(
    'out-of-range',
    `volume '${id}': ${fsType} can grow by at most a factor of ${limit.factor} at once, from ${formatBytes(limit.presentBytes)} to ` +
      `${formatBytes(limit.maxBytes)}; expand it to that size first, or create a new volume`,
  );
}

/**
 * Throws `out-of-range` for a size that even an empty pool could not promise. For a size that is prevented only by other volumes,
 * the reservation throws `no-space`.
 */
async function requirePromisable(volume: FoundVolume, sizeBytes: bigint): Promise<void> {
  const facts = await volume.pool.space.facts();
  // Only the configured reserve is permanent: btrfs may have fewer blocks available for a while.
  const reserveBytes = reserveBytesOf(volume.pool.settings.reserve, facts.totalBytes);
  const maxBytes = ((facts.totalBytes - reserveBytes) * BigInt(facts.overcommitPerMille)) / 1000n;
  if (sizeBytes <= maxBytes) return;
  throw new VolumeError(
    'out-of-range',
    `volume '${volume.record.id}': ${formatBytes(sizeBytes)} is more than pool '${volume.pool.name}' can ever promise, ${formatBytes(maxBytes)}; request less, or enlarge the pool`,
  );
}

/**
 * Called under the lock of the volume, and after its record is durable: a stage has either ended, and its device or node state
 * shows it, or begins later and grows the filesystem.
 */
async function findRemainingGrowth(
  domain: Domain,
  volume: FoundVolume,
): Promise<Expansion['remaining']> {
  const { record } = volume;
  const { devices } = await attachmentOf(domain, volume);
  if (devices.some((device) => device.sizeBytes < record.sizeBytes)) return 'node-expand';
  if (record.fsType === null) return 'none';
  const superblock = await domain.host.filesystems[record.fsType].readSuperblock(volume.imagePath);
  if (superblock !== undefined && !isSmaller(superblock, record.sizeBytes)) return 'none';
  // Without a device, a volume can still count as staged for its caller, who then does not stage it again: a growth offline was
  // killed between unmount and mount.
  const { staged } = await readNodeState(domain, volume);
  return devices.length === 0 && staged === null ? 'next-stage' : 'node-expand';
}
