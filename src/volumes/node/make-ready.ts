import { VolumeError } from '../../errors.ts';
import type { Filesystem, FsType, ImageStatus, Superblock } from '../../host/host.ts';
import { formatBytes, MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pools/pools.ts';
import { type Attachment, attachmentOf, detach, statusOf } from './attachment.ts';

/**
 * Throws `wrong-state` where the image is smaller than its filesystem. Nothing may grow it again: the lost end would read as
 * zeros, and nobody could tell any more. Of a raw block volume only its promise is known, which may be ahead of the image.
 */
export async function requireUncut(
  domain: Domain,
  volume: FoundVolume,
  image: ImageStatus,
): Promise<void> {
  const { record, imagePath } = volume;
  if (record.fsType === null || image.sizeBytes >= record.sizeBytes) return;
  const superblock = await domain.host.filesystems[record.fsType].readSuperblock(imagePath);
  if (superblock === undefined) throw withoutSuperblock(volume, record.fsType);
  requireUncutBy(volume, superblock, image);
}

function requireUncutBy(volume: FoundVolume, superblock: Superblock, image: ImageStatus): void {
  if (superblock.sizeBytes <= image.sizeBytes) return;
  throw damaged(
    volume,
    `its filesystem has ${formatBytes(superblock.sizeBytes)}, its image only ${formatBytes(image.sizeBytes)}: the image was cut`,
  );
}

function withoutSuperblock(volume: FoundVolume, fsType: FsType): VolumeError {
  return damaged(volume, `no valid ${fsType} superblock is in ${volume.imagePath}`);
}

/** Brings the image to its promised size, allocated whole where it is thick. A repeat costs nothing. Throws as `requireUncut`. */
export async function finishImage(
  domain: Domain,
  volume: FoundVolume,
  seen?: ImageStatus,
): Promise<void> {
  const { sizeBytes, provisioning } = volume.record;
  const image = seen ?? (await statusOf(domain, volume));
  const short = image.sizeBytes < sizeBytes;
  const holey = provisioning === 'thick' && image.allocatedBytes < sizeBytes;
  if (!short && !holey) return;
  await requireUncut(domain, volume, image);
  await domain.host.files.growImage(volume.imagePath, {
    sizeBytes,
    allocate: provisioning === 'thick',
  });
  await domain.reached('stage:image-grown');
}

/**
 * Everything that must hold before a read-write mount: the superblock is there and is ours, the image is as large as its
 * filesystem, ext4's error flag is looked into, a promised growth of ext4 is finished while the image is not attached.
 * Answers what is attached afterwards too.
 */
export async function makeReady(
  domain: Domain,
  volume: FoundVolume,
  options: { filesystem: Filesystem; present: Attachment },
): Promise<{ readonly superblock: Superblock; readonly present: Attachment }> {
  const { filesystem, present } = options;
  const { record, imagePath } = volume;
  const superblock = await filesystem.readSuperblock(imagePath);
  if (superblock === undefined) throw withoutSuperblock(volume, filesystem.type);
  const image = present.image ?? (await statusOf(domain, volume));
  requireUncutBy(volume, superblock, image);
  await finishImage(domain, volume, image);
  const mustCheck = superblock.state === 'has-errors';
  const mustGrow = filesystem.type === 'ext4' && isSmaller(superblock, record.sizeBytes);
  if (!mustCheck && !mustGrow) return { superblock, present };
  if (!(await setFree(domain, volume, present))) return { superblock, present };
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
async function setFree(domain: Domain, volume: FoundVolume, present: Attachment): Promise<boolean> {
  for (const device of present.devices) {
    if (await domain.host.loops.isInUse(device)) return false;
    await detach(domain, device, volume.record.id);
  }
  return true;
}

async function check(domain: Domain, volume: FoundVolume, filesystem: Filesystem): Promise<void> {
  const result = await filesystem.check(volume.imagePath);
  if (result.outcome === 'damaged') throw damaged(volume, result.detail);
  domain.log.warn(
    { volumeId: volume.record.id, outcome: result.outcome },
    'the filesystem had its error flag set and was checked',
  );
}

/** A volume that is not touched any more: what is wrong, and the ways out. */
export function damaged(volume: FoundVolume, detail: string): VolumeError {
  const { id } = volume.record;
  return new VolumeError(
    'wrong-state',
    `volume '${id}' is damaged and was left untouched: ${detail}; restore a snapshot or a backup, or repair ${volume.imagePath} by hand`,
  );
}
