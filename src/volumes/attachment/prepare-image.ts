import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, FsType, ImageStatus, LoopDevice, Superblock } from '../../host/host.ts';
import { volumeRecord, writeRecord } from '../../state/records.ts';
import { formatBytes, MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { type Attachment, attachmentOf, detach, imageStatusOf } from './attachment.ts';

/**
 * Due before anything looks into an image or changes it: throws `busy` while a program of a driver that has ended works on it,
 * and takes back what such a program had changed when it was killed. Nobody attaches an image before that is done.
 */
export async function recoverImage(
  domain: Domain,
  volume: FoundVolume,
  devices: readonly LoopDevice[],
): Promise<void> {
  const { record, imagePath } = volume;
  await withReason(`volume '${record.id}'`, volume.pool, async () => {
    await domain.host.files.requireNoProgram(imagePath);
    if (record.fsType === null || devices.length > 0) return;
    if (!(await domain.host.filesystems[record.fsType].recover(imagePath))) return;
    domain.log.warn(
      { volumeId: record.id },
      'took back what a program had changed in an image when it was killed',
    );
  });
}

/**
 * Throws `wrong-state` where the image is smaller than it once was, or than its filesystem. Nothing may grow it again: the
 * lost end would read as zeros, and nobody could tell any more. A growth that was cut short is no such case: the promise is
 * ahead of the image then.
 */
export async function requireNotTruncated(
  domain: Domain,
  volume: FoundVolume,
  image: ImageStatus,
): Promise<void> {
  const { record, imagePath } = volume;
  if (image.sizeBytes >= record.sizeBytes) return;
  const { reachedBytes } = record;
  if (reachedBytes !== undefined && image.sizeBytes < reachedBytes) {
    throw truncated(volume, image, { what: 'it', hadBytes: reachedBytes });
  }
  if (record.fsType === null) return;
  const superblock = await domain.host.filesystems[record.fsType].readSuperblock(imagePath);
  if (superblock === undefined) throw noSuperblockError(volume, record.fsType);
  requireHoldsFilesystem(volume, superblock, image);
}

function requireHoldsFilesystem(
  volume: FoundVolume,
  superblock: Superblock,
  image: ImageStatus,
): void {
  if (superblock.sizeBytes <= image.sizeBytes) return;
  throw truncated(volume, image, { what: 'its filesystem', hadBytes: superblock.sizeBytes });
}

function truncated(
  { record, imagePath }: FoundVolume,
  image: ImageStatus,
  { what, hadBytes }: { what: string; hadBytes: bigint },
): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${record.id}' was left untouched: the image ${imagePath} was truncated to ${formatBytes(image.sizeBytes)} (${image.sizeBytes} bytes), ` +
      `${what} had ${formatBytes(hadBytes)}; restore a snapshot or a backup, or, to go on without the lost end, run 'truncate --size=${hadBytes} ${imagePath}'`,
  );
}

/** No superblock of its type whose checksum holds. */
export function noSuperblockError(volume: FoundVolume, fsType: FsType): VolumeError {
  return damagedVolumeError(volume, `no valid ${fsType} superblock is in ${volume.imagePath}`);
}

/** Brings the image to its promised size, allocated whole where it is thick. A repeat costs nothing. Throws as `requireNotTruncated`. */
export async function growImageToPromisedSize(
  domain: Domain,
  volume: FoundVolume,
  seen?: ImageStatus,
): Promise<void> {
  const { sizeBytes, provisioning } = volume.record;
  const image = seen ?? (await imageStatusOf(domain, volume));
  const short = image.sizeBytes < sizeBytes;
  const holey = provisioning === 'thick' && image.allocatedBytes < sizeBytes;
  if (!short && !holey) {
    try {
      await recordSize(domain, volume);
    } catch (error) {
      // On a full disk it is written the next time: pods start there all the same.
      if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    }
    return;
  }
  await requireNotTruncated(domain, volume, image);
  await domain.host.files.growImage(volume.imagePath, {
    sizeBytes,
    allocate: provisioning === 'thick',
  });
  await domain.reached('stage:image-grown');
  await recordSize(domain, volume);
}

/** Writes down that the image has the promised size, which is on the disk: from now on a smaller one was truncated. */
export async function recordSize(domain: Domain, volume: FoundVolume): Promise<FoundVolume> {
  const { area, pool, record } = volume;
  if (record.reachedBytes === record.sizeBytes) return volume;
  const reached = { ...record, reachedBytes: record.sizeBytes };
  await writeRecord(domain.host.files, pool.recordPathOf(area, record.id), {
    schema: volumeRecord,
    value: reached,
  });
  pool.indexOf(area).put(reached);
  await domain.reached('expand:size-recorded');
  return { ...volume, record: reached };
}

/**
 * Everything that must hold before a read-write mount: the superblock is there and is ours, the image is as large as its
 * filesystem, ext4's error flag is looked into, a promised growth of ext4 is finished while the image is not attached where it
 * cannot be finished while it is mounted (`growsOffline`).
 * Answers what is attached afterwards too.
 */
export async function prepareImage(
  domain: Domain,
  volume: FoundVolume,
  options: { filesystem: Filesystem; present: Attachment; growsOffline?: boolean },
): Promise<{ readonly superblock: Superblock; readonly present: Attachment }> {
  const { filesystem, present } = options;
  const { record, imagePath } = volume;
  const { growsOffline = !domain.host.facts.canGrowExt4Online } = options;
  await recoverImage(domain, volume, present.devices);
  const superblock = await filesystem.readSuperblock(imagePath);
  if (superblock === undefined) throw noSuperblockError(volume, filesystem.type);
  const image = present.image ?? (await imageStatusOf(domain, volume));
  requireHoldsFilesystem(volume, superblock, image);
  await growImageToPromisedSize(domain, volume, image);
  const mustCheck = superblock.state === 'has-errors';
  const mustGrow =
    growsOffline && filesystem.type === 'ext4' && isSmaller(superblock, record.sizeBytes);
  if (!mustCheck && !mustGrow) return { superblock, present };
  if (!(await detachAll(domain, volume, present))) return { superblock, present };
  if (mustCheck) await check(domain, volume, filesystem);
  if (mustGrow) {
    await domain.host.filesystems.ext4.growImage(imagePath, {
      sectorSize: record.sectorSize,
      workDir: volume.pool.pathOf('tmp'),
    });
    await domain.reached('stage:filesystem-grown');
  }
  return {
    superblock: mustGrow ? { ...superblock, sizeBytes: record.sizeBytes } : superblock,
    present: await attachmentOf(domain, volume),
  };
}

/** Whether the filesystem is smaller than the volume by more than what rounding explains. */
export function isSmaller(superblock: Superblock, sizeBytes: bigint): boolean {
  const rest = sizeBytes - superblock.sizeBytes;
  return rest >= MiB && rest >= (superblock.unusableTailBytes ?? 0n);
}

/** Checkers must never see an attached image. Answers false when somebody uses the device, elsewhere than here. */
async function detachAll(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
): Promise<boolean> {
  for (const device of present.devices) {
    if (await domain.host.loops.isInUse(device)) return false;
    await detach(domain, device, volume.record.id);
  }
  return true;
}

async function check(domain: Domain, volume: FoundVolume, filesystem: Filesystem): Promise<void> {
  const result = await filesystem.check(volume.imagePath);
  if (result.outcome === 'damaged') throw damagedVolumeError(volume, result.detail);
  domain.log.warn(
    { volumeId: volume.record.id, outcome: result.outcome },
    'the filesystem had its error flag set and was checked',
  );
}

/** A volume that is not touched any more: what is wrong, and the ways out. */
export function damagedVolumeError(volume: FoundVolume, detail: string): VolumeError {
  const { id } = volume.record;
  return new VolumeError(
    'wrong-state',
    `volume '${id}' is damaged and was left untouched: ${detail}; restore a snapshot or a backup, or repair ${volume.imagePath} by hand`,
  );
}
