import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, FsType, ImageStatus, LoopDevice, Superblock } from '../../host/host.ts';
import { volumeRecord } from '../../state/records.ts';
import { formatBytes, MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { rewriteRecord } from '../pool/commit.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { detach, staysInUse } from './attach.ts';
import { type Attachment, attachmentOf, imageStatusOf } from './attachment.ts';

/**
 * Must be called before an image is read, changed or attached. Throws `busy` while a program that an earlier driver process started
 * still works on it. If such a program was killed, its changes are undone.
 */
export async function recoverImage(
  domain: Domain,
  volume: FoundVolume,
  devices: readonly LoopDevice[],
): Promise<void> {
  const { record, imagePath } = volume;
  await withReason(
    domain,
    { subject: `volume '${callIdOf(volume)}'`, disk: volume.pool },
    async (domain) => {
      await domain.host.files.requireNoProgram(imagePath);
      if (record.fsType === null || devices.length > 0) return;
      if (!(await domain.host.filesystems[record.fsType].recover(imagePath))) return;
      domain.log.warn(
        { volumeId: record.id },
        'the changes of a killed program in an image were undone',
      );
    },
  );
}

/**
 * Throws `wrong-state` if the image was truncated. It must not be grown again: the lost end would read as zeros, and the loss could
 * no longer be detected.
 */
export async function requireNotTruncated(
  domain: Domain,
  volume: FoundVolume,
  image: ImageStatus,
): Promise<void> {
  const truncation = await truncationOf(domain, volume, image);
  if (truncation !== undefined) throw truncatedError(volume, image, truncation);
}

function truncatedError(
  volume: FoundVolume,
  image: ImageStatus,
  { was, minBytes }: Truncation,
): VolumeError {
  const { imagePath } = volume;
  if (minBytes === undefined) return damagedVolumeError(volume, was);
  return new VolumeError(
    'wrong-state',
    `volume '${callIdOf(volume)}' was left untouched: the image ${imagePath} was truncated to ${formatBytes(image.sizeBytes)} (${image.sizeBytes} bytes), ` +
      `${was}; restore a snapshot or a backup, or, to continue without the lost data, run 'truncate --size=${minBytes} ${imagePath}'`,
  );
}

/** Describes an image whose end is lost. */
interface Truncation {
  /** Its former size, for messages. */
  readonly was: string;
  /** The size to which the image must be extended; undefined if not even its superblock is left. */
  readonly minBytes: bigint | undefined;
}

/**
 * Whether the image is smaller than its reached size or its filesystem; undefined if it is not. A smaller image of an interrupted
 * growth is not truncated: it never had its promised size. For a raw block volume of an earlier driver the two cannot be told
 * apart, so it counts as truncated.
 */
export async function truncationOf(
  { host }: Pick<Domain, 'host'>,
  { record, imagePath }: FoundVolume,
  image: ImageStatus,
): Promise<Truncation | undefined> {
  const { sizeBytes, reachedBytes, fsType } = record;
  if (image.sizeBytes >= sizeBytes) return undefined;
  if (reachedBytes !== undefined && image.sizeBytes < reachedBytes) {
    return { was: `it had ${formatBytes(reachedBytes)}`, minBytes: reachedBytes };
  }
  if (fsType === null) {
    if (reachedBytes !== undefined) return undefined;
    return { was: `it should have ${formatBytes(sizeBytes)}`, minBytes: sizeBytes };
  }
  const superblock = await host.filesystems[fsType].readSuperblock(imagePath);
  if (superblock === undefined)
    return { was: noSuperblockText(fsType, imagePath), minBytes: undefined };
  return truncationOfFilesystem(superblock, image);
}

function truncationOfFilesystem(
  { sizeBytes }: Superblock,
  image: ImageStatus,
): Truncation | undefined {
  if (sizeBytes <= image.sizeBytes) return undefined;
  return { was: `its filesystem had ${formatBytes(sizeBytes)}`, minBytes: sizeBytes };
}

function noSuperblockText(fsType: FsType, imagePath: string): string {
  return `no valid ${fsType} superblock is in ${imagePath}`;
}

/** The error for an image that has no superblock of its filesystem type with a valid checksum. */
export function noSuperblockError(volume: FoundVolume, fsType: FsType): VolumeError {
  return damagedVolumeError(volume, noSuperblockText(fsType, volume.imagePath));
}

/** Grows the image to its promised size and allocates a thick one completely. Idempotent. Throws as `requireNotTruncated` does. */
export async function growImageToPromisedSize(
  domain: Domain,
  volume: FoundVolume,
  known?: ImageStatus,
): Promise<void> {
  const { sizeBytes, provisioning } = volume.record;
  const image = known ?? (await imageStatusOf(domain.host.files, volume));
  const isTooSmall = image.sizeBytes < sizeBytes;
  const isSparse = provisioning === 'thick' && image.allocatedBytes < sizeBytes;
  if (!isTooSmall && !isSparse) {
    try {
      await recordReachedSize(domain, volume);
    } catch (error) {
      // Pods must start on a full disk too; the size is recorded at the next stage.
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
  await recordReachedSize(domain, volume);
}

/** Records that the image on the disk has its promised size: from now on a smaller image was truncated. */
export async function recordReachedSize(domain: Domain, volume: FoundVolume): Promise<FoundVolume> {
  const { area, pool, record } = volume;
  if (record.reachedBytes === record.sizeBytes) return volume;
  const reached = { ...record, reachedBytes: record.sizeBytes };
  await rewriteRecord(domain.host.files, { pool, area, schema: volumeRecord }, reached);
  await domain.reached('expand:size-recorded');
  return { ...volume, record: reached };
}

/**
 * Makes an image ready for a read-write mount: its superblock must be valid, and the image must be as large as its filesystem. An
 * ext4 with its error flag set is checked. A filesystem that cannot be grown while it is mounted is grown here, while the image is
 * detached: with `growsOffline`, and any ext4 if the driver lacks CAP_SYS_RESOURCE. Returns the superblock and the attachment afterwards.
 * An image whose device is in use elsewhere is neither checked nor grown, and the superblock shows its present size.
 */
export async function prepareImage(
  domain: Domain,
  volume: FoundVolume,
  options: { filesystem: Filesystem; attachment: Attachment; growsOffline?: boolean },
): Promise<{ readonly superblock: Superblock; readonly attachment: Attachment }> {
  const { filesystem, attachment } = options;
  const { record, imagePath } = volume;
  await recoverImage(domain, volume, attachment.devices);
  const superblock = await filesystem.readSuperblock(imagePath);
  if (superblock === undefined) throw noSuperblockError(volume, filesystem.type);
  const image = attachment.image ?? (await imageStatusOf(domain.host.files, volume));
  const truncation = truncationOfFilesystem(superblock, image);
  if (truncation !== undefined) throw truncatedError(volume, image, truncation);
  await growImageToPromisedSize(domain, volume, image);
  const mustCheck = superblock.state === 'has-errors';
  const growsOffline =
    options.growsOffline === true ||
    (filesystem.type === 'ext4' && !domain.host.facts.canGrowExt4Online);
  const mustGrow = growsOffline && isSmaller(superblock, record.sizeBytes);
  if (!mustCheck && !mustGrow) return { superblock, attachment };
  if (!(await detachAll(domain, volume, attachment))) return { superblock, attachment };
  if (mustCheck) await checkFilesystem(domain, volume, filesystem);
  if (mustGrow) {
    await filesystem.growUnmounted(imagePath, {
      sectorSize: record.sectorSize,
      workDir: volume.pool.directoryOf('tmp'),
    });
    await domain.reached('stage:filesystem-grown');
  }
  return {
    superblock: mustGrow ? { ...superblock, sizeBytes: record.sizeBytes } : superblock,
    attachment: await attachmentOf(domain, volume),
  };
}

/** Whether the filesystem is smaller than the volume by more than rounding can explain. */
export function isSmaller(superblock: Superblock, sizeBytes: bigint): boolean {
  const rest = sizeBytes - superblock.sizeBytes;
  return rest >= MiB && rest >= (superblock.unusableTailBytes ?? 0n);
}

/**
 * Detaches all devices of the image, because programs must never change an attached image. Returns false if a device is in use, for
 * example in another mount namespace.
 */
async function detachAll(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<boolean> {
  for (const device of attachment.devices) {
    if (await staysInUse(domain, device)) return false;
    await detach(domain, device, volume.record.id);
  }
  return true;
}

async function checkFilesystem(
  domain: Domain,
  volume: FoundVolume,
  filesystem: Filesystem,
): Promise<void> {
  const result = await filesystem.check(volume.imagePath);
  if (result.outcome === 'damaged') throw damagedVolumeError(volume, result.detail);
  domain.log.warn(
    { volumeId: volume.record.id, outcome: result.outcome },
    'the filesystem had its error flag set and was checked',
  );
}

/** The error for a damaged volume, which the driver leaves untouched. */
export function damagedVolumeError(volume: FoundVolume, detail: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${callIdOf(volume)}' is damaged and was left untouched: ${detail}; restore a snapshot or a backup, or repair ${volume.imagePath} manually`,
  );
}
