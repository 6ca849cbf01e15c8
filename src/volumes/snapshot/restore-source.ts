import { VolumeError } from '../../errors.ts';
import type { FsType, Host, ImageStatus, SectorSize } from '../../host/host.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { chooseCapacity, type GrowthLimit, minBytesOf } from '../capacity.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopyPosition, CopySource } from '../jobs/interrupted-restores.ts';
import type { CreateVolumeInput, VolumeKind } from '../model.ts';
import type { Pool } from '../pool/pool.ts';

/** The snapshot or volume that a new volume is copied from. */
export interface Origin {
  /** For messages. */
  readonly subject: string;
  /** Undefined if the source is on another node. */
  readonly pool: Pool | undefined;
  readonly kind: VolumeKind;
  /** The filesystem in the image, also of a raw block volume (ADR 0032); null if there is none. */
  readonly fsType: FsType | null;
  readonly sectorSize: SectorSize;
  readonly provisioning: VolumeRecord['provisioning'];
  readonly image: Pick<ImageStatus, 'sizeBytes' | 'allocatedBytes'>;
  /** How far its filesystem can grow at once; undefined if that is not limited. */
  readonly growthLimit: Pick<GrowthLimit, 'factor' | 'maxBytes'> | undefined;
  /** Present for a snapshot. Since a snapshot never changes, a copy of it can be resumed after a restart. */
  readonly copySource?: CopySource;
  /** Copies the data into a new file, or into an unfinished copy, starting at the position. */
  readonly copyTo: (to: string, operation: Operation, from: CopyPosition) => Promise<void>;
  /** Blocks of a source volume that become shared with the clone: the source needs new ones when it rewrites them. */
  readonly sharedBytes: bigint;
}

/** The source as the new volume uses it: the filesystem in a raw block volume is not changed, and need not be known. */
export function asRequestedKind(origin: Origin, kind: VolumeKind): Origin {
  return kind === 'mount' ? origin : { ...origin, fsType: null, growthLimit: undefined };
}

/** Fills in the sector size and the filesystem of the source where the request does not set them. */
export function withSourceDefaults(input: CreateVolumeInput, origin: Origin): CreateVolumeInput {
  const { sectorSize = origin.sectorSize } = input.settings;
  const fsType = input.isFsTypeUnset === true ? origin.fsType : input.fsType;
  return { ...input, fsType, settings: { ...input.settings, sectorSize } };
}

/**
 * Throws `invalid` if the request asks for a filesystem or sector size that the source does not have. The kind may differ, since a
 * volume is bytes (ADR 0032): but no filesystem is ever made in a copy.
 */
export function requireSameFormat(input: CreateVolumeInput, origin: Origin, subject: string): void {
  if (input.kind === 'mount' && origin.fsType === null) {
    throw new VolumeError(
      'invalid',
      `${subject}: ${origin.subject} is a raw block volume that contains no ext4, xfs or btrfs filesystem with a valid superblock at its start, or more than one; request a raw block volume (in Kubernetes: volumeMode Block)`,
    );
  }
  if (input.fsType !== origin.fsType) {
    throw new VolumeError(
      'invalid',
      `${subject}: ${origin.subject} has ${origin.fsType ?? 'no filesystem'}, not ${input.fsType ?? 'none'}; request the filesystem of the source (in Kubernetes: a StorageClass with that fstype)`,
    );
  }
  if (input.settings.sectorSize !== origin.sectorSize) {
    throw new VolumeError(
      'invalid',
      `${subject}: ${origin.subject} has sectors of ${origin.sectorSize} bytes, which its data depends on; use a StorageClass with sectorSize '${origin.sectorSize}'`,
    );
  }
}

/**
 * Chooses the size of the copy: at least that of the source; if more is requested, at least the minimum to which the filesystem can
 * grow. Throws `out-of-range`.
 */
export function chooseSize(
  filesystems: Host['filesystems'],
  input: Pick<CreateVolumeInput, 'range'>,
  origin: Pick<Origin, 'subject' | 'fsType' | 'image'>,
  subject: string,
): bigint {
  const { sizeBytes } = origin.image;
  const { requiredBytes } = input.range;
  if (requiredBytes > 0n && requiredBytes < sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: ${formatBytes(requiredBytes)} is less than the ${formatBytes(sizeBytes)} (${sizeBytes} bytes) of ${origin.subject}; request at least that`,
    );
  }
  const grows = requiredBytes > sizeBytes && origin.fsType !== null;
  const minFilesystemBytes = grows
    ? filesystems[origin.fsType].minGrownBytes
    : minBytesOf(filesystems, origin.fsType);
  const minBytes = sizeBytes > minFilesystemBytes ? sizeBytes : minFilesystemBytes;
  return chooseCapacity(input.range, { minBytes, defaultBytes: minBytes, subject });
}

/** Throws `out-of-range` if the filesystem of the source would have to grow by a larger factor than it can at once. */
export function requireGrowable(
  { subject: source, fsType, growthLimit }: Pick<Origin, 'subject' | 'fsType' | 'growthLimit'>,
  sizeBytes: bigint,
  subject: string,
): void {
  if (fsType === null || growthLimit === undefined || sizeBytes <= growthLimit.maxBytes) return;
  throw new VolumeError(
    'out-of-range',
    `${subject}: the ${fsType} filesystem of ${source} can grow at most by a factor of ${growthLimit.factor} at once, to ${formatBytes(growthLimit.maxBytes)}; request that size, and expand the volume afterwards`,
  );
}
