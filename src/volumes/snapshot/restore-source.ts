import { VolumeError } from '../../errors.ts';
import { ext4MaxGrowthFactor } from '../../host/filesystem/ext4/superblock.ts';
import type { FsType, ImageStatus, SectorSize } from '../../host/host.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { minBytesOf } from '../attachment/new-volume-record.ts';
import { chooseCapacity } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopySource } from '../jobs/restore-copies.ts';
import type { CreateVolumeInput, VolumeKind, VolumeSource } from '../model.ts';
import type { Pool } from '../pool/pool.ts';

/** What a new volume starts from. */
export interface Origin {
  readonly what: string;
  readonly pool: Pool;
  readonly kind: VolumeKind;
  readonly fsType: FsType | null;
  readonly sectorSize: SectorSize;
  readonly provisioning: VolumeRecord['provisioning'];
  readonly image: ImageStatus;
  /** A snapshot, which never changes: a copy of it can go on after a restart. */
  readonly copySource?: CopySource;
  /** Puts its bytes into a new file, or into one that has the first of them already. */
  readonly take: (to: string, operation: Operation, resumeFrom: bigint) => Promise<void>;
  /** Bytes that become shared with the copy and so must be promised to the source again: a volume's, on a reflink pool. */
  readonly sharedBytes: bigint;
}

/** What the request leaves open is as in the source. */
export function withSourceDefaults(input: CreateVolumeInput, origin: Origin): CreateVolumeInput {
  const { sectorSize = origin.sectorSize } = input.settings;
  const fsType = input.fsTypeIsOpen === true ? origin.fsType : input.fsType;
  return { ...input, fsType, settings: { ...input.settings, sectorSize } };
}

/** A block image never becomes a mounted filesystem, nor the other way round, nor one filesystem another. */
export function requireSameFormat(input: CreateVolumeInput, origin: Origin, what: string): void {
  if (input.kind !== origin.kind) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} is of a ${origin.kind} volume and cannot become a ${input.kind} volume`,
    );
  }
  if (input.fsType !== origin.fsType) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} holds ${origin.fsType ?? 'no filesystem'}, not ${input.fsType ?? 'none'}; ask for what it holds (in Kubernetes: a StorageClass with that fstype)`,
    );
  }
  if (input.settings.sectorSize !== origin.sectorSize) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} has sectors of ${origin.sectorSize} bytes, which its data was laid out for; use a StorageClass with sectorSize '${origin.sectorSize}'`,
    );
  }
}

/** Of its source at least; what is asked beyond that, grown to what the filesystem can be. Throws `out-of-range`. */
export function chooseSize(
  domain: Domain,
  input: CreateVolumeInput,
  origin: Origin,
  what: string,
): bigint {
  const { sizeBytes } = origin.image;
  const { requiredBytes } = input.range;
  if (requiredBytes > 0n && requiredBytes < sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: ${formatBytes(requiredBytes)} is less than the ${formatBytes(sizeBytes)} (${sizeBytes} bytes) of ${origin.what}; ask for at least that`,
    );
  }
  const least = minBytesOf(domain, origin.fsType);
  const grows = requiredBytes > sizeBytes && origin.fsType !== null;
  const grown = grows ? domain.host.filesystems[origin.fsType].minGrownBytes : least;
  const minBytes = sizeBytes > grown ? sizeBytes : grown;
  return chooseCapacity(input.range, { minBytes, defaultBytes: minBytes, what });
}

/** Throws `out-of-range` where ext4 would have to grow by more than it survives. */
export async function requireGrowable(
  domain: Domain,
  source: VolumeSource,
  growth: { origin: Origin; sizeBytes: bigint; what: string },
): Promise<void> {
  const { origin, sizeBytes, what } = growth;
  if (origin.fsType !== 'ext4') return;
  const { imagePath } =
    source.kind === 'snapshot'
      ? domain.pools.getSnapshot(source.id)
      : domain.pools.getVolume(source.id);
  const superblock = await domain.host.filesystems.ext4.readSuperblock(imagePath);
  const most = (superblock?.sizeBytes ?? origin.image.sizeBytes) * ext4MaxGrowthFactor;
  if (sizeBytes <= most) return;
  throw new VolumeError(
    'out-of-range',
    `${what}: the ext4 of ${origin.what} grows at most ${ext4MaxGrowthFactor} times at once, to ${formatBytes(most)}; ask for that, and expand the volume afterwards`,
  );
}
