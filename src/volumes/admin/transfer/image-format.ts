import { VolumeError } from '../../../errors.ts';
import { type FsType, type ImageStatus, type SectorSize } from '../../../host/host.ts';
import { formatBytes } from '../../../units.ts';
import { superblocksIn } from '../../attachment/image-content.ts';
import type { Domain } from '../../domain.ts';
import { parseParameters } from '../../parameters/storage-class.ts';
import type { ImportDraft } from './import-draft.ts';

/** Raw images of other software were mostly used on devices with this sector size. */
const defaultBlockSectorSize = 512;

/** What an image contains, and how it can become a volume. */
export interface ImageFormat {
  readonly fsType: FsType | null;
  readonly uuid: string | undefined;
  readonly sectorSize: SectorSize;
}

/**
 * Reads what an image contains. Throws `wrong-state` for a truncated or damaged filesystem, `invalid` if there is none that the
 * driver knows, or another one than requested.
 */
export async function findFormat(
  domain: Domain,
  { input, subject }: ImportDraft,
  { path, image, origin }: { path: string; image: ImageStatus; origin: string },
): Promise<ImageFormat> {
  const requested = parseParameters(input.parameters, input.fsType ?? null).sectorSize;
  if (input.block) {
    return { fsType: null, uuid: undefined, sectorSize: requested ?? defaultBlockSectorSize };
  }
  const [found] = await superblocksIn(domain.host, path);
  if (found === undefined) throw unknownError(subject, origin);
  const { fsType, uuid, sizeBytes, maxSectorSize } = found;
  if (input.fsType !== undefined && input.fsType !== fsType) {
    throw new VolumeError(
      'invalid',
      `${subject}: ${origin} contains ${fsType}, not ${input.fsType}; omit the filesystem`,
    );
  }
  if (sizeBytes > image.sizeBytes) {
    throw new VolumeError(
      'wrong-state',
      `${subject}: ${origin} was truncated: it has ${formatBytes(image.sizeBytes)} (${image.sizeBytes} bytes) and its ${fsType} filesystem ${formatBytes(sizeBytes)} (${sizeBytes} bytes); use a complete copy`,
    );
  }
  if (found.state === 'has-errors') throw damagedError(subject, origin, fsType);
  if (requested !== undefined && requested > maxSectorSize) {
    throw new VolumeError(
      'invalid',
      `${subject}: the ${fsType} filesystem in ${origin} has blocks for sectors of ${maxSectorSize} bytes and cannot be mounted with sectors of ${requested} bytes; omit the sector size`,
    );
  }
  return { fsType, uuid, sectorSize: requested ?? maxSectorSize };
}

function unknownError(subject: string, origin: string): VolumeError {
  return new VolumeError(
    'invalid',
    `${subject}: ${origin} contains no ext4, xfs or btrfs filesystem with a valid superblock at its start (a disk image with partitions has none); import one partition, or all of it as a raw block volume (--block)`,
  );
}

function damagedError(subject: string, origin: string, fsType: FsType): VolumeError {
  const repair = { ext4: 'e2fsck -f', xfs: 'xfs_repair', btrfs: 'btrfs check' }[fsType];
  return new VolumeError(
    'wrong-state',
    `${subject}: the ${fsType} filesystem in ${origin} has errors or was not unmounted; repair a copy of the image with '${repair}', then import that`,
  );
}
